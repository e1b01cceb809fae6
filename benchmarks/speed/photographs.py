"""Camera-like JPEG files of several sizes, all different, made once and kept in .bench/ of the checkout."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.inputs import PHOTOGRAPHS

CACHE_FOLDER = Path(__file__).parents[2] / ".bench"
SMALL, MEDIUM, LARGE, CAMERA = (640, 480), (1280, 960), (1920, 1080), (4000, 3000)
Pixels = tuple[int, int]
# The noise of a sensor, so that files are as large as those of cameras and phones: 90 KB, 0.3, 0.5 and 2.6 MB.
_NOISE = {SMALL: 5.5, MEDIUM: 5.0, LARGE: 5.0, CAMERA: 4.0}
_QUALITY = {SMALL: 88, MEDIUM: 88, LARGE: 88, CAMERA: 90}


def photographs(counts: Mapping[Pixels, int]) -> dict[Pixels, list[bytes]]:
    """So many different JPEG files of each size; the same ones in every run."""
    return {size: [_cached(size, number) for number in range(count)] for size, count in counts.items()}


def mixed(files: Mapping[Pixels, list[bytes]]) -> list[bytes]:
    """All of them, each size spread evenly, so that any stretch holds the same work."""
    placed = [(number / len(those), file) for those in files.values() for number, file in enumerate(those)]
    return [file for _, file in sorted(placed, key=lambda each: each[0])]


def _cached(size: Pixels, number: int) -> bytes:
    file = CACHE_FOLDER / "pictures" / f"{size[0]}x{size[1]}-{number:03}.jpg"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(_photograph(size, number))
        partial.replace(file)
    return file.read_bytes()


def _photograph(size: Pixels, number: int) -> bytes:
    """A part of one of the four photographs, mirrored or not, enlarged, with a sensor's noise."""
    draw = np.random.default_rng([*size, number])
    sources = sorted(PHOTOGRAPHS.glob("*.jpg"))
    source = Image.open(sources[number % len(sources)]).convert("RGB")
    scale = draw.uniform(0.7, 1.0) * min(source.width / size[0], source.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = draw.uniform(0, source.width - width), draw.uniform(0, source.height - height)
    picture = source.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
    if draw.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    light = draw.standard_normal((size[1], size[0], 1), np.float32) * _NOISE[size]
    colour = draw.standard_normal((size[1], size[0], 3), np.float32) * (_NOISE[size] / 2)
    noisy = np.clip(np.asarray(picture, np.float32) + light + colour, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=_QUALITY[size], subsampling=2)
    return file.getvalue()
