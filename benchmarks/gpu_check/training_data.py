"""Shards to train on: squares of stripes, of which nothing is drawn at random, and files as cameras make them."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed.photographs import SMALL, photographs
from training.data.decoded_image import DecodedImage

SIDE = 96
COLOURS = {
    "red": (220, 30, 30), "green": (30, 190, 60), "blue": (40, 60, 220), "yellow": (230, 220, 40),
    "white": (240, 240, 240), "grey": (120, 120, 120), "purple": (140, 40, 180), "orange": (240, 140, 20),
}  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
DIRECTIONS = ("upright", "level")
DIFFERENT_PHOTOGRAPHS = 64


def write_stripes(folder: Path) -> Path:
    """A shard of 512 opaque squares: so many stripes of a colour on black, four with different noise of each kind."""
    kinds = itertools.product(COLOURS, NUMBERS, DIRECTIONS)
    rng = np.random.default_rng(0)

    def members() -> Iterator[tuple[str, bytes, str]]:
        for number, (colour, count, direction) in enumerate(kinds):
            wave = np.sin(np.linspace(0, 2 * np.pi * (NUMBERS.index(count) + 1), SIDE)) > 0
            shape = wave[None, :, None] if direction == "upright" else wave[:, None, None]
            for turn in range(4):
                noise = rng.integers(0, 30, (SIDE, SIDE, 3))
                pixels = (shape * np.array(COLOURS[colour]) * 0.85 + noise).astype(np.uint8)
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, "PNG")
                yield f"{number:04d}-{turn}.png", out.getvalue(), f"{count} {colour} stripes, {direction}"

    return _write(folder, members())


def write_photographs(folder: Path, count: int) -> Path:
    """A shard of JPEG files of 640x480 pixels, of which each of the first 64 comes again and again."""
    files = photographs({SMALL: min(count, DIFFERENT_PHOTOGRAPHS)})[SMALL]
    return _write(
        folder,
        ((f"{number:05d}.jpg", files[number % len(files)], f"photograph number {number}") for number in range(count)),
    )


def _write(folder: Path, members: Iterator[tuple[str, bytes, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "train-0.tar", "w") as archive:
        for name, data, caption in members:
            for file, content in ((name, data), (f"{name.partition('.')[0]}.txt", caption.encode())):
                info = tarfile.TarInfo(file)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder / "train-0.tar"


def decode_for_training(shard: Path, side: int) -> Callable[[], object]:
    """A function that decodes one picture of the shard as training does, each time the next one."""
    with tarfile.open(shard) as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".jpg")]
        held = [archive.extractfile(member) for member in members[:DIFFERENT_PHOTOGRAPHS]]
        files = itertools.cycle([file.read() for file in held if file is not None])
    return lambda: DecodedImage(next(files), side, 10**9)
