"""What is kept of a picture is its vector: where the pixels change, the version in the key must change too."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

from model.config import Preprocessing
from model.images.preprocessing import load_image
from model.runtime.engine import PIXELS_VERSION

# Beside each version, what its code makes of the pictures below. Never change a line: raise PIXELS_VERSION and add one.
PIXELS = {1: "43c47e336d0fdc84cb42258f4cfe5278ac9aa5c3d1b263b351a216a21eada23f"}
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"interpolation": "bilinear", "resize_mode": "squash"},
    {"exif_orientation": False, "alpha": "drop", "crop": "floor"},
)


def _files() -> list[bytes]:
    """One for each way through the decoder: a JPEG that is decoded at less than its size, alpha, palette, 16 bits."""
    y, x = np.mgrid[0:601, 0:907]
    picture = Image.fromarray(np.stack([x * 255 // 907, y * 255 // 601, (x * y) % 256], axis=-1).astype(np.uint8))
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray((x % 256).astype(np.uint8)))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    deep = Image.fromarray((x * 65535 // 907).astype(np.uint16))
    saved: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture, "JPEG", {"quality": 90}),
        (picture, "JPEG", {"exif": orientation, "progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture.convert("L"), "JPEG", {}),
        (alpha, "PNG", {}),
        (picture.quantize(64), "PNG", {}),
        (picture.quantize(64), "GIF", {}),
        (deep, "PNG", {}),
        (alpha, "WEBP", {"lossless": True}),
        (picture.convert("1"), "BMP", {}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
    ]
    return [_encoded(*each) for each in saved]


def _encoded(image: Image.Image, format_name: str, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def test_other_pixels_have_another_version() -> None:
    digest = hashlib.sha256()
    for file in _files():
        for settings in SETTINGS:
            for size in (64, 224):
                digest.update(load_image(file, Preprocessing(size=size, **settings)).tobytes())
    assert digest.hexdigest() == PIXELS[PIXELS_VERSION], (
        "the same pictures become other pixels than before, so that cached vectors would be wrong: "
        f"raise PIXELS_VERSION in model/runtime/engine.py, and add {digest.hexdigest()} here"
    )
