"""An image as training keeps it: squeezed to one square, with the shape that it had.

One square for all lets a whole batch be cropped, turned and coloured at once; the crop undoes the squeeze.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from model.images.geometry import apply_orientation
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation


class DecodedImage:
    """RGBA pixels [side, side, 4] uint8, width / height before they were squeezed, whether any is not opaque."""

    __slots__ = ("aspect", "pixels", "transparent")

    def __init__(self, data: bytes, side: int, max_pixels: int) -> None:
        """Decode an image file. Raises ImageError."""
        opened = open_header(data, max_pixels, draft_size=side)
        opened.load()
        image, box = opened.take(), opened.box
        try:
            image, box = apply_orientation(image, box, orientation(image))
            image = eight_bit(image)
            left, top, right, bottom = box or (0, 0, *image.size)
            self.aspect = (right - left) / (bottom - top)
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
            self.transparent = _shows_through(image)
            if not self.transparent:
                # The same colours as with alpha, in half the time: what is opaque needs no premultiplying.
                image = image.convert("RGB")
            # Pillow resizes RGBA with premultiplied alpha, so transparent pixels lend no colour to their neighbours.
            resized = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
            self.pixels = np.asarray(resized.convert("RGBA"))
        except Exception as error:  # broken palettes come to light only here, by several exceptions
            raise ImageError("invalid_image", f"its colours (mode {image.mode}) cannot be read") from error


def is_transparent(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    return image.has_transparency_data and _shows_through(image.convert("RGBA"))


def _shows_through(image: Image.Image) -> bool:
    """Whether any pixel of an image in RGB or RGBA is not opaque."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
