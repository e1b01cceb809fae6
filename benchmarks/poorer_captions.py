"""Make a corpus whose pictures have better and poorer captions, to see what the difference is worth.

    python -m benchmarks.poorer_captions 'data/photos/train-caltech101-*.tar' --to data/captioned

Of each labelled picture, `captions` holds what people said of it: its sentences, its description, its label in a
sentence. `alt_text` holds what a page of the web might: by chance the name of a file (30 %), a word that is said of
everything (20 %), its wider class or the first word of its label (20 %), or the label of another picture (30 %). Labels
are left away, so that a run learns from captions alone. What is written depends on the names of the pictures.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.sample import Sample
from training.data.shard_writer import ShardSample, ShardWriter
from training.data.shards import find_shards, read_shards

BOILERPLATE = ("image", "photo", "picture", "untitled", "click to enlarge")
SHARES = {"file name": 0.3, "boilerplate": 0.2, "shortened": 0.2, "of another picture": 0.3}


def better(sample: Sample) -> list[str]:
    """What people said of a picture."""
    annotation = sample.annotation
    said = [*annotation.captions, f"a photo of a {annotation.label}", str(annotation.label)]
    if annotation.description:
        said.append(f"{annotation.label}. {annotation.description}")
    return said


def poorer(sample: Sample, others: Sequence[str], rng: random.Random) -> str:
    """What a page of the web might say beside it; `others` are labels of all pictures."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if kind == "file name":
        return f"{rng.choice(('IMG', 'DSC', 'DSCN', 'P'))}_{rng.randrange(10_000):04d}.jpg"
    if kind == "boilerplate":
        return rng.choice(BOILERPLATE)
    if kind == "shortened":
        label = str(sample.annotation.label)
        return sample.annotation.coarse or (label.split()[0] if " " in label else label[: 1 + len(label) // 2])
    return rng.choice(others)


def captioned(samples: Sequence[Sample]) -> Iterator[ShardSample]:
    """The pictures with captions of both sources."""
    labels = [str(sample.annotation.label) for sample in samples]
    for sample in samples:
        rng = random.Random(sample.key)
        record = {"captions": better(sample), "alt_text": poorer(sample, labels, rng), "origin": sample.key}
        extra = sample.annotation.model_extra or {}
        record |= {name: extra[name] for name in ("source", "licence", "attribution") if name in extra}
        yield ShardSample("png" if sample.image[:4] == b"\x89PNG" else "jpg", sample.image, record)


def main() -> None:
    """Write the shards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+", help="labelled pictures; patterns in quotes")
    parser.add_argument("--to", type=Path, required=True, help="folder for train-000000.tar and on")
    arguments = parser.parse_args()
    samples = [each for each in read_shards(find_shards(arguments.shards, Path.cwd())) if each.annotation.label]
    writer = ShardWriter(arguments.to, "train", 5000)
    writer.write(captioned(samples))
    print(f"{writer.samples:,} pictures in {len(writer.written)} shards in {arguments.to}")


if __name__ == "__main__":
    main()
