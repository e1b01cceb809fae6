"""Pictures a second that the loader of training gives, beside what its decoder does on one core.

`python -m benchmarks.loader`: rounds of decoding alone on one core, then the loader on one core and on all, as a run
with `pictures: disk` has it: drawn, read, decoded by other processes, gathered into batches. Medians of the rounds.
Core-milliseconds a picture are CPU time of all processes, which a busy host disturbs less than pictures a second.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image, ImageEnhance

from benchmarks.inputs import PHOTOGRAPHS
from model.runtime.processor import usable_cores
from model.tokenizers.clip import Tokenizer
from training.config import Data, Optimizer, Source, Stage, TrainConfig
from training.data.dataset import TrainingSet
from training.data.decoded_image import DecodedImage
from training.data.shard_writer import shard_image
from training.loop.loader import Loader
from training.loop.processes import Processes, device_of

PICTURES, BATCH, STEPS, SIZE = 256, 256, 6, (640, 480)
SIDE = 128  # of what is kept of a picture, as `data.store_pixels` has it by default
GIVEN = 2  # steps before the clock runs: processes start, and files are read for the first time


def photographs(count: int) -> list[bytes]:
    """So many different JPEG files of SIZE, at the quality that cameras and the web have."""
    rng = random.Random(0)
    sources = [Image.open(path).convert("RGB").resize(SIZE) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    files = []
    for _ in range(count):
        image = ImageEnhance.Brightness(rng.choice(sources)).enhance(rng.uniform(0.8, 1.2))
        out = io.BytesIO()
        image.rotate(rng.uniform(-5, 5), Image.Resampling.BICUBIC).save(out, "JPEG", quality=rng.randint(80, 92))
        files.append(out.getvalue())
    return files


def write_shard(file: Path, images: list[bytes]) -> None:
    """A shard of pictures with a caption each."""
    with tarfile.open(file, "w") as archive:
        for number, image in enumerate(images):
            caption = f"a photo of thing {number}".encode()
            for suffix, content in (("jpg", image), ("txt", caption)):
                info = tarfile.TarInfo(f"{number:06d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def decoder_rate(images: list[bytes]) -> float:
    """Pictures a core-second of the decoder alone."""
    began = time.process_time()
    for image in images[:BATCH]:
        DecodedImage(image, SIDE, 10**8)
    return BATCH / (time.process_time() - began)


def loader_rate(folder: Path) -> tuple[float, float, float]:
    """Pictures a second, core-seconds a picture of all processes, and of this one alone."""
    data = Data(train=[Source(shards=["*.tar"], resample=False)], pictures="disk", holdout=0, store_pixels=SIDE)
    steps = GIVEN + STEPS
    config = TrainConfig(
        name="loader", model="sightword-small", data=data, steps=steps, batch_size=BATCH,
        stages=[Stage(start=0, pixels=SIDE)], optimizer=Optimizer(warmup_steps=1),
    )  # fmt: skip
    loader = Loader(config, TrainingSet(data, folder, 0), Tokenizer.clip(), Processes(0, 1, device_of("cpu"), False))
    inputs = loader.iterate(0)
    for _ in range(GIVEN):
        next(inputs)
    began, all_before, own_before = time.perf_counter(), _cpu_of_all(), time.process_time()
    for _ in inputs:
        pass
    took, all_after, own_after = time.perf_counter() - began, _cpu_of_all(), time.process_time()
    loader.close()
    count = STEPS * BATCH
    return count / took, (all_after - all_before) / count, (own_after - own_before) / count


def _cpu_of_all() -> float:
    """CPU seconds of this process and of those that it started."""
    this = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (this, *this.children(recursive=True)))


def in_process(folder: Path, cores: int) -> list[float]:
    """What `loader_rate` returns in a process of its own, which has so many cores from its start."""
    command = [sys.executable, "-m", "benchmarks.loader", "--folder", str(folder), "--cores", str(cores)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    figures: list[float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Print a table for pictures as they come, and for the same ones reduced by `prepare`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are told (default: 5)")
    parser.add_argument("--folder", type=Path, help="measure once, of the shards in this folder, and print JSON")
    parser.add_argument("--cores", type=int, help="with that many cores")
    options = parser.parse_args()
    if options.folder:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
        os.environ["SIGHTWORD_TRAINING_CACHE"] = str(options.folder)
        print(json.dumps(loader_rate(options.folder)))
        return
    rounds = options.rounds
    originals = photographs(PICTURES)
    reduced = [shard_image(image, SIDE, 10**8)[1] for image in originals]
    print(f"{os.cpu_count()} cores; pictures kept at {SIDE} pixels, {rounds} rounds\n")
    for name, images in (("640 x 480", originals), (f"prepare --size {SIDE}", reduced)):
        with tempfile.TemporaryDirectory() as folder:
            write_shard(Path(folder) / "train.tar", images)
            report(name, images, Path(folder), rounds)


def report(name: str, images: list[bytes], folder: Path, rounds: int) -> None:
    """Measure by turns, and print."""
    cores = usable_cores()
    alone: list[float] = []
    measured: dict[int, list[list[float]]] = {count: [] for count in sorted({1, cores})}
    for _ in range(rounds):
        alone.append(decoder_rate(images))
        for count, rates in measured.items():
            rates.append(in_process(folder, count))
    decoder = statistics.median(alone)
    print(f"{name}, {sum(map(len, images)) / len(images) / 1024:.0f} KiB each: decoder {decoder:,.0f} a core-second")
    for count, rates in measured.items():
        rate, everything, own = (statistics.median(column) for column in zip(*rates, strict=True))
        print(
            f"  loader, {count} of the cores: {rate:,.0f}/s = {rate / count / decoder:.2f} x cores x decoder; "
            f"{1000 * everything:.2f} core-ms a picture, {1000 * own:.3f} of them in the training process"
        )
    print(
        f"  projected: one process with 16 cores {_projected(16, 1, everything, own):,.0f}/s, "
        f"8 GPUs with 16 cores {_projected(16, 8, everything, own):,.0f}/s, "
        f"8 GPUs with 128 cores {_projected(128, 8, everything, own):,.0f}/s\n"
    )


def _projected(cores: int, processes: int, everything: float, own: float) -> float:
    """Pictures a second: as many as the cores do, and no more than each training process hands on with one core."""
    return min(cores / everything, processes / own)


if __name__ == "__main__":
    main()
