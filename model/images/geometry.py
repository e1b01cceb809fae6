"""Which pixels of a picture become the square that the image tower sees.

The geometry of OpenAI's CLIP, Pillow's anti-aliased resize of the shortest side, then the centre crop; and those of
open_clip and transformers: both sides resized, with or without a crop, and the longest side resized, then padded.
"""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from model.config import Preprocessing

Box = tuple[float, float, float, float]  # left, top, right, bottom
Part = tuple[int, int, int, int]

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Pixels that the widest filter, bicubic, reads to each side of a point, in units of the larger of the two grids.
_FILTER_SUPPORT = 2
# A strip of 1 x 100,000 pixels would be resized to 224 x 22,400,000 before the crop. Above this many pixels, still less
# memory than decoding the largest picture takes, only the part under the crop is resized.
MAX_RESIZED_PIXELS = 1 << 24

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED, _LEFT_ON_THE_RIGHT, _TOP_AT_THE_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def apply_orientation(image: Image.Image, box: Box | None, orientation: object) -> tuple[Image.Image, Box | None]:
    """A picture stored in an EXIF orientation, upright, and where a box in it is then; unknown ones are 1, upright."""
    if orientation not in _UPRIGHT:
        return image, box
    image = image.transpose(_UPRIGHT[orientation])
    return image, box and _orient_box(box, image.size, orientation)


def _orient_box(box: Box, size: tuple[int, int], orientation: object) -> Box:
    """Where a box of the stored image is once it is upright, with the `size` that it then has."""
    left, top, right, bottom = box
    if orientation in _SIDES_SWAPPED:
        left, top, right, bottom = top, left, bottom, right
    if orientation in _LEFT_ON_THE_RIGHT:
        left, right = size[0] - right, size[0] - left
    if orientation in _TOP_AT_THE_BOTTOM:
        top, bottom = size[1] - bottom, size[1] - top
    return left, top, right, bottom


def resize_and_crop(
    image: Image.Image, box: Box | None, config: Preprocessing, max_resized_pixels: int = MAX_RESIZED_PIXELS
) -> Image.Image:
    """Resize and crop an upright image, or what is in `box` of it, to the square that the image tower sees.

    The pixels are the reference's, bit for bit, only without a box and where the whole image resized has no more than
    `max_resized_pixels`.
    """
    size, resampling = config.size, _RESAMPLING[config.interpolation]
    resize_size = config.resize_size or size
    if config.resize_mode == "squash" and resize_size == size:
        return image.resize((size, size), resampling, box)
    if config.resize_mode == "longest":
        return _resize_and_pad(image, box, config)
    resized, offset = _resized(box or (0, 0, *image.size), config)
    if box is None and resized[0] * resized[1] <= max_resized_pixels:
        x, y = offset
        return image.resize(resized, resampling).crop((x, y, x + size, y + size))
    part, inner = part_under_crop(image.size, box, config)
    return image.crop(part).resize((size, size), resampling, inner)


def part_under_crop(size: tuple[int, int], box: Box | None, config: Preprocessing) -> tuple[Part, Box]:
    """The pixels of an image of that size, or of what is in `box` of it, which the square is made of.

    And where in that part the square begins and ends. Not for `longest`, which crops nothing.
    """
    left, top, right, bottom = box or (0, 0, *size)
    resized, offset = _resized((left, top, right, bottom), config)
    first_x, last_x, x0, x1 = _span(size[0], (left, right), resized[0], offset[0], config.size)
    first_y, last_y, y0, y1 = _span(size[1], (top, bottom), resized[1], offset[1], config.size)
    return (first_x, first_y, last_x, last_y), (x0, y0, x1, y1)


def _resized(box: Box, config: Preprocessing) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size that what is in a box is resized to, and where in that the square begins."""
    size, resize_size = config.size, config.resize_size or config.size
    width, height = box[2] - box[0], box[3] - box[1]
    short = min(width, height)
    # The truncation and the rounding to even are torchvision's, and part of the reference; transformers rounds down.
    resized = (int(resize_size * width / short), int(resize_size * height / short))
    if config.resize_mode == "squash":
        resized = (resize_size, resize_size)
    x, y = ((side - size) // 2 if config.crop == "floor" else round((side - size) / 2) for side in resized)
    return resized, (x, y)


def _resize_and_pad(image: Image.Image, box: Box | None, config: Preprocessing) -> Image.Image:
    """The whole picture with its longest side at the size, centred on `fill_color`, as open_clip does it.

    The colour is of the picture's mode: 0 is the first colour of a palette, and white in CMYK. A side that open_clip
    rounds to nothing, at which it fails, becomes one pixel.
    """
    size = config.size
    left, top, right, bottom = box or (0, 0, *image.size)
    ratio = max(right - left, bottom - top) / size
    width, height = (max(round(side / ratio), 1) for side in (right - left, bottom - top))
    resized = image.resize((width, height), _RESAMPLING[config.interpolation], box)
    x, y = (size - width) // 2, (size - height) // 2
    bands = len(image.getbands())
    fill = (config.fill_color,) * bands if bands > 1 else config.fill_color
    return ImageOps.expand(resized, (x, y, size - width - x, size - height - y), fill)


def _span(side: int, source: tuple[float, float], target: int, offset: int, size: int) -> tuple[int, int, float, float]:
    """Pixels of a `side` that `size` pixels from `offset` on are made of, where `source` of it becomes `target` pixels.

    First and last, and where in them these begin and end. Cutting them out first keeps the coordinates small: Pillow
    holds them as float32.
    """
    begin, end = source
    scale = (end - begin) / target
    start, stop = begin + offset * scale, min(begin + (offset + size) * scale, end)
    margin = math.ceil(_FILTER_SUPPORT * max(scale, 1)) + 1
    first = max(math.floor(start) - margin, 0)
    last = min(math.ceil(stop) + margin, side)
    return first, last, start - first, stop - first
