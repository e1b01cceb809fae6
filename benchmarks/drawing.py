"""What drawing a batch takes of each rank.

Every rank draws the whole batch, which is a pure function of seed and step, and then the pairs of its own rows and
columns of the masks, and how its own images are varied. Microseconds of one core of each rank for a sample of the whole
batch; a million by these is how many samples a second all ranks together can be given.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.config import Data, Source
from training.data.dataset import TrainingSet
from training.data.variation import Block, draw_variation

SAMPLES, ROUNDS, BLOCK = 50_000, 5, 64
SIZES, RANKS = (1_024, 16_384, 32_768), (1, 8)
WORDS = [f"word{number}" for number in range(3_000)]


def _caption(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=10))


# What is known of an image: as of pictures from the web, of described photographs, of sets of labels.
TEXTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "a caption": lambda rng: {"captions": [_caption(rng)]},
    "five captions": lambda rng: {"captions": [_caption(rng) for _ in range(5)]},
    "a label of 1,000, a wider one, two synonyms, five tags": lambda rng: {
        "label": WORDS[int(rng.random() ** 2 * 1_000)],
        "coarse": WORDS[rng.randrange(1_000, 1_050)],
        "tags": rng.choices(WORDS, k=5),
    },
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawing", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES, help=f"of batches (default: {SIZES})")
    sizes = parser.parse_args().sizes
    torch.set_num_threads(1)  # the time of all its threads would not be counted
    print("| texts | batch | ranks | batch, us | masks, us | variation, us | together | samples/s of all ranks |")
    print("| --- |" + " ---: |" * 7)
    for name, texts in TEXTS.items():
        with tempfile.TemporaryDirectory() as folder:
            training_set = _training_set(Path(folder), texts)
            for size in sizes:
                for ranks in RANKS:
                    costs = [_cost(training_set, step, size, ranks) for step in range(ROUNDS)]
                    drawn, masks, variation = map(statistics.median, zip(*costs, strict=True))
                    total = drawn + masks + variation
                    print(
                        f"| {name} | {size:,} | {ranks} | {drawn:.1f} | {masks:.1f} | {variation:.1f} | {total:.1f} | "
                        f"{1e6 / total:,.0f} |",
                        flush=True,
                    )


def _training_set(folder: Path, texts: Callable[[random.Random], dict[str, Any]]) -> TrainingSet:
    rng = random.Random(0)
    with tarfile.open(folder / "train.tar", "w") as shard:
        for number in range(SAMPLES):
            record = json.dumps(texts(rng)).encode()
            for member, content in ((f"{number}.jpg", b"not read"), (f"{number}.json", record)):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                shard.addfile(info, io.BytesIO(content))
    (folder / "synonyms.json").write_text(json.dumps({word: [f"a {word}", f"old {word}"] for word in WORDS[:1_000]}))
    source = Source(shards=["train.tar"])
    return TrainingSet(Data(train=[source], pictures="disk", synonyms="synonyms.json"), folder, 0)


def _cost(training_set: TrainingSet, step: int, size: int, ranks: int) -> tuple[float, float, float]:
    """Microseconds for each sample of the batch: of drawing it, of a rank's pairs, and of its images' variation."""
    began = time.thread_time()
    batch = training_set.batch(step, size)
    drawn = time.thread_time()
    batch.matches.of_images(slice(0, size // ranks))
    batch.matches.of_texts(slice(0, len(batch.texts) // ranks))
    matched = time.thread_time()
    own = size // ranks
    blocks = [Block(BLOCK, seed) for seed in range(own // BLOCK)]
    draw_variation(torch.ones(own), torch.zeros(own, dtype=torch.bool), blocks, 0.5)
    varied = time.thread_time()
    each = 1e6 / size
    return (drawn - began) * each, (matched - drawn) * each, (varied - matched) * each


if __name__ == "__main__":
    main()
