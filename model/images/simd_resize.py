"""Resizing by vector instructions (the crate fast_image_resize): filters and crop of Pillow, an eighth of its time.

Weights have fewer bits than Pillow's: a fifth of all samples differ, most of them by 1 of 255. The library is given
pixels in a buffer of their own; it could read Pillow's memory, but by offsets that hold for some of its versions only.
"""

from __future__ import annotations

from typing import Any

import cykooz_resizer as library
import numpy as np
import numpy.typing as npt
from PIL import Image

from model.config import Preprocessing
from model.images.geometry import Box, part_under_crop
from model.images.preprocessing import resize_with_pillow

# Of what is resized, and of what is between the two passes: with its copies 13 bytes a pixel were measured, of the 16
# that a picture may take. JPEGs that are decoded for 224 pixels have about a million.
MAX_PIXELS = 1 << 21
_CHANNELS = 3
_FILTERS = {
    "bicubic": library.ResizeAlg.convolution(library.FilterType.catmull_rom),  # the cubic of a = -0.5
    "bilinear": library.ResizeAlg.convolution(library.FilterType.bilinear),
}


def resize(image: Image.Image, box: Box | None, config: Preprocessing) -> npt.NDArray[np.uint8]:
    """As `resize_with_pillow`, which gets what is no RGB, is padded, or has more than MAX_PIXELS under the crop."""
    if image.mode != "RGB" or config.resize_mode == "longest":
        return resize_with_pillow(image, box, config)
    part, inner = part_under_crop(image.size, box, config)
    width, height = part[2] - part[0], part[3] - part[1]
    if max(width, config.size) * height > MAX_PIXELS:
        return resize_with_pillow(image, box, config)
    pixels = image.tobytes() if part == (0, 0, *image.size) else image.crop(part).tobytes()
    square = resize_pixels(pixels, (width, height), inner, config)
    return resize_with_pillow(image, box, config) if square is None else square


def resize_pixels(
    pixels: bytes, size: tuple[int, int], inner: Box, config: Preprocessing
) -> npt.NDArray[np.uint8] | None:
    """What is in `inner` of RGB pixels of that size, uint8 [size, size, 3]; None where the library gives up."""
    left, top, right, bottom = inner
    # The library refuses a box that ends behind the image, be it by rounding.
    crop = library.CropBox(left, top, min(right, size[0]) - left, min(bottom, size[1]) - top)
    options = library.ResizeOptions(_FILTERS[config.interpolation], crop_box=crop, use_alpha=False)
    source = library.ImageData(*size, library.PixelType.U8x3, pixels)
    target = library.ImageData(config.size, config.size, library.PixelType.U8x3)
    try:
        library.Resizer().resize(source, target, options)  # of its own: one resizes for one thread at a time
    except BaseException as error:
        # A panic of Rust is derived from BaseException, and cannot be imported.
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        return None
    buffer: Any = target.get_buffer()
    return np.frombuffer(buffer, np.uint8).reshape(config.size, config.size, _CHANNELS)
