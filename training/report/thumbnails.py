"""Pictures small enough to stand inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from model.embedder import ImageReader
from model.images.geometry import turn
from model.images.preprocessing import decode, eight_bit, orientation

SIDE = 112  # pixels
QUALITY = 70


def thumbnail(picture: ImageReader) -> str:
    """A data URI of the picture, at most SIDE pixels wide and high, about 3 kB; upright, transparency on white."""
    image = decode(picture())
    image = eight_bit(turn(image, None, orientation(image))[0]).convert("RGBA")
    image.thumbnail((SIDE, SIDE))
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    file = io.BytesIO()
    white.convert("RGB").save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
