"""The images and texts on which a variant is compared with its source, and its activations' ranges are measured."""

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
from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer
from model.variants.options import VariantError
from model.zeroshot import DEFAULT_TEMPLATES, fill

MIN_IMAGES, MAX_IMAGES = 2, 300
MAX_FILE_BYTES = 64 << 20
PASSAGES = 28  # texts of different lengths
# Side of a crop as a share of the photograph's, and how many positions it takes along each axis.
CROPS = ((1.0, 1), (0.75, 2), (0.5, 3))

Pixels = npt.NDArray[np.uint8]

# The classes of the zero-shot task on which both bundles are compared: CIFAR-100's,
# of Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
# fmt: off
LABELS: tuple[str, ...] = (
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple tree", "motorcycle", "mountain", "mouse", "mushroom", "oak tree", "orange",
    "orchid", "otter", "palm tree", "pear", "pickup truck", "pine tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow tree", "wolf", "woman", "worm",
)
# fmt: on


def photograph_crops(preprocessing: Preprocessing) -> Pixels:
    """Crops of the photographs that ship, then the same mirrored: uint8 [112, size, size, 3]."""
    crops = [
        preprocess(_crop(photograph, scale, column, row, positions), preprocessing)
        for photograph in smoke_inputs.photographs()
        for scale, positions in CROPS
        for column, row in product(range(positions), repeat=2)
    ]
    pixels = np.stack(crops)
    return np.concatenate([pixels, pixels[:, :, ::-1]])


def read_images(folder: Path, preprocessing: Preprocessing, max_images: int = MAX_IMAGES) -> tuple[Pixels, int]:
    """Images of `folder` and the folders in it, uint8 [images, size, size, 3], and how many files are unreadable.

    Of more than `max_images`, that many are taken, always the same ones. Raises VariantError below MIN_IMAGES.
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
        if len(pixels) == max_images:
            break
    if len(pixels) < MIN_IMAGES:
        raise VariantError(f"{folder} holds {len(pixels)} readable pictures among {len(files)} files: add some")
    return np.stack(pixels), unreadable


def token_rows(tokenizer: TextTokenizer) -> list[list[int]]:
    """Token ids of the prompt of every label, then of passages of PASSAGES lengths; neither is padded.

    Of a model whose texts are categories, as many of these as there are labels.
    """
    if isinstance(tokenizer, CategoryTokenizer):
        return smoke_inputs.category_rows(tokenizer, len(LABELS))
    prompts = tokenizer.encode([fill(DEFAULT_TEMPLATES[0], label) for label in LABELS])
    passages = smoke_inputs.token_rows(tokenizer)
    picked = [passages[i * len(passages) // PASSAGES] for i in range(PASSAGES)]
    return [*(tokenizer.truncate(row) for row in prompts), *picked]


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise OSError(f"{file} is too large")
    return file.read_bytes()


def _crop(photograph: Image.Image, scale: float, column: int, row: int, positions: int) -> Image.Image:
    width, height = round(photograph.width * scale), round(photograph.height * scale)
    left = (photograph.width - width) * column // max(positions - 1, 1)
    top = (photograph.height - height) * row // max(positions - 1, 1)
    return photograph.crop((left, top, left + width, top + height))
