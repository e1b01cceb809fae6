"""What the tests of samples share: a photograph, and whether a file shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from model.bundle import Bundle, bundled
from model.images.preprocessing import load_image
from model.runtime.engine import Engine
from tests.model.pictures import Pixels, encoded

WIDTH, HEIGHT = 200, 134
CLOSE = 1.5  # mean difference, of 255

Array = np.ndarray[Any, Any]


def grey(image: Image.Image) -> Array:
    return np.asarray(image.convert("L")).astype(np.float64)


def packed(values: Array, bits: int) -> bytes:
    """Samples of fewer than 8 bits, each row in whole bytes; 12 bits likewise."""
    size = 16 if bits > 8 else 8
    samples = values.astype(f">u{size // 8}")
    every_bit = np.unpackbits(samples.view(np.uint8).reshape(*values.shape, size // 8), axis=-1)[..., size - bits :]
    return np.packbits(every_bit.reshape(len(values), -1), axis=1).tobytes()


def vectors(engine: Engine, *pixels: Pixels) -> Array:
    return np.concatenate([engine.embed_images(one[None]) for one in pixels])


def check(engine: Engine, image: Image.Image, data: bytes, close: float = CLOSE) -> None:
    config = Bundle.load(bundled()).preprocessing
    ours, expected = load_image(data, config), load_image(encoded(image, "PNG"), config)
    assert np.abs(ours.astype(float) - expected).mean() < close
    first, second = vectors(engine, ours, expected)
    assert float(first @ second) > 0.99
