"""What the tests of pictures share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.config import Preprocessing

DEFAULT = Preprocessing(size=224)
SMALL = Preprocessing(size=32)
REFERENCE = Preprocessing(size=224, alpha="drop", exif_orientation=False)

Pixels = npt.NDArray[np.uint8]


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def difference(first: Pixels, second: Pixels) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def openai_order(image: Image.Image, size: int, resampling: Image.Resampling) -> Pixels:
    """What torchvision does for OpenAI's CLIP: resize the shortest side, crop the centre, convert to RGB."""
    width, height = image.size
    if width <= height:
        resized = image.resize((size, int(size * height / width)), resampling)
    else:
        resized = image.resize((int(size * width / height), size), resampling)
    left, top = round((resized.width - size) / 2.0), round((resized.height - size) / 2.0)
    return np.array(resized.crop((left, top, left + size, top + size)).convert("RGB"))


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in a mode, by the detours that Pillow's own conversions need."""
    if mode == "La":
        return image.convert("LA").convert("La")
    if mode == "RGBa":
        return image.convert("RGBA").convert("RGBa")
    if mode == "PA":
        return image.convert("RGBA").convert("PA")
    if mode == "P":
        return image.quantize(256)
    if mode.startswith("I;16"):
        order = ">" if mode.endswith("B") else "<"
        wide = np.array(image.convert("L")).astype(f"{order}u2") * 257
        return Image.frombytes(mode, image.size, wide.astype(f"{order}u2").tobytes())
    return image.convert(mode)


def half_transparent(mode: str) -> Image.Image:
    """Black, with the left half transparent, in a way that is peculiar to the mode."""
    colour = Image.new("RGBA", (40, 40), (0, 0, 0, 255))
    colour.paste((0, 0, 0, 0), (0, 0, 20, 40))
    flat = Image.new("L", (40, 40), 0)
    flat.paste(9, (0, 0, 20, 40))
    if mode in ("RGBA", "LA"):
        return colour.convert(mode)
    if mode in ("RGBa", "La", "PA"):
        return in_mode(colour, mode)
    if mode == "P by number" or mode == "P by table":
        palette = Image.new("P", (40, 40), 0)
        palette.putpalette([0] * 768)
        palette.paste(9, (0, 0, 20, 40))
        palette.info["transparency"] = 9 if mode == "P by number" else bytes([255] * 9 + [0])
        return palette
    image = flat.convert(mode)
    image.info["transparency"] = {"L": 9, "RGB": (9, 9, 9)}[mode]
    return image
