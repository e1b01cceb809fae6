"""The pictures on which a variant is calibrated and measured."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model import smoke_inputs
from model.config import Preprocessing
from model.images.preprocessing import ImageError, load_image, preprocess
from model.suggestions import did_you_mean_path
from model.variants.errors import VariantError

LEAST_PICTURES, MOST_PICTURES = 2, 300
MAX_FILE_BYTES = 64 << 20
# Side of a crop as a share of the photograph's, and how many places it takes along each axis.
CROPS = ((1.0, 1), (0.75, 2), (0.5, 3))

Pixels = npt.NDArray[np.uint8]


def probe_crops(preprocessing: Preprocessing) -> Pixels:
    """Crops of the probe's photographs, then the same mirrored: uint8 [112, size, size, 3]."""
    crops = [
        preprocess(_crop(photograph, scale, column, row, places), preprocessing)
        for photograph in smoke_inputs.photographs()
        for scale, places in CROPS
        for column, row in product(range(places), repeat=2)
    ]
    pixels = np.stack(crops)
    return np.concatenate([pixels, pixels[:, :, ::-1]])


def read_folder(folder: Path, preprocessing: Preprocessing) -> tuple[Pixels, int]:
    """Pictures of `folder` and the folders in it, uint8 [pictures, size, size, 3], and how many files are unreadable.

    Of more than MOST_PICTURES, that many are taken, always the same. Raises VariantError below LEAST_PICTURES.
    """
    if not folder.is_dir():
        raise VariantError(f"{folder} is not a folder: name one that holds pictures{did_you_mean_path(folder)}")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    random.Random(len(files)).shuffle(files)
    pixels, unreadable = [], 0
    for file in files:
        try:
            pixels.append(load_image(_read(file), preprocessing))
        except (ImageError, OSError):
            unreadable += 1
        if len(pixels) == MOST_PICTURES:
            break
    if len(pixels) < LEAST_PICTURES:
        raise VariantError(f"{folder} holds {len(pixels)} readable pictures among {len(files)} files: add some")
    return np.stack(pixels), unreadable


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise OSError(f"{file} is too large")
    return file.read_bytes()


def _crop(photograph: Image.Image, scale: float, column: int, row: int, places: int) -> Image.Image:
    width, height = round(photograph.width * scale), round(photograph.height * scale)
    left = (photograph.width - width) * column // max(places - 1, 1)
    top = (photograph.height - height) * row // max(places - 1, 1)
    return photograph.crop((left, top, left + width, top + height))
