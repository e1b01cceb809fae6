"""For each format the files that cost its decoder most, square and of a given side."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.decoding.tiffs import layout, one_tile, tiff
from model.images.memory import ALLOWANCE, BYTES_PER_PIXEL

TURNED = 6  # the EXIF orientation of a camera that was held upright


def gradient(side: int, mode: str = "RGB") -> Image.Image:
    """Something smooth, so that files stay small, with half of it more or less transparent."""
    ramp = Image.linear_gradient("L").resize((side, side))
    colours = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_90), Image.new("L", (side, side), 90)))
    if mode in ("RGBA", "LA"):
        colours.putalpha(ramp)
    return colours.convert(mode)


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """A file of Pillow's."""
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def _rotated(image: Image.Image, format_name: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return encoded(image, format_name, exif=exif, **options)


def _narrow(side: int) -> Image.Image:
    """As many pixels, too narrow to be decoded at less than their number."""
    width = max(400, math.ceil(side * side / 60_000))
    return gradient(side, "CMYK").resize((width, side * side // width))


def _strip(side: int, bits: int, samples: int, photometric: int, more: dict[int, tuple[int, list[float]]]) -> bytes:
    pixels = zlib.compress(bytes(side * side * samples * bits // 8), 1)
    return tiff({**layout(side, side, bits, samples, photometric), **more}, [pixels])


def _largest_tile(side: int) -> bytes:
    """The largest tile that is let through where `side` x `side` pixels are."""
    return one_tile(math.isqrt(BYTES_PER_PIXEL * side * side + ALLOWANCE - (1 << 20)))


def run_length_bmp(side: int) -> bytes:
    """Of 8 bits: one run and the end of the row, for every row."""
    palette = b"".join(bytes((level, 255 - level, level, 0)) for level in range(256))
    rows = b"".join(b"\xff\x07" * (side // 255) + b"\0\0" for _ in range(side)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(rows), 0, 0, 1078) + head + palette + rows


WORST: dict[str, Callable[[int], bytes]] = {
    "JPEG, baseline": lambda side: encoded(gradient(side), "JPEG"),
    "JPEG, progressive": lambda side: encoded(gradient(side), "JPEG", progressive=True, subsampling=0),
    "JPEG, progressive CMYK": lambda side: encoded(gradient(side, "CMYK"), "JPEG", progressive=True),
    "JPEG, progressive CMYK, turned": lambda side: _rotated(gradient(side, "CMYK"), "JPEG", progressive=True),
    "JPEG, progressive CMYK, not reduced": lambda side: encoded(_narrow(side), "JPEG", progressive=True),
    "MPO": lambda side: encoded(gradient(side), "MPO", save_all=True, append_images=[gradient(side)]),
    "PNG, RGB, turned": lambda side: _rotated(gradient(side), "PNG", compress_level=1),
    "PNG, RGBA": lambda side: encoded(gradient(side, "RGBA"), "PNG", compress_level=1),
    "PNG, palette with transparency": lambda side: encoded(gradient(side).quantize(64), "PNG", transparency=3),
    "PNG, 16 bits": lambda side: encoded(
        Image.fromarray(np.asarray(gradient(side, "L")).astype(np.uint16) * 257), "PNG", compress_level=1
    ),
    "WebP, lossy": lambda side: encoded(gradient(side), "WEBP", method=0),
    "WebP, lossy with alpha": lambda side: encoded(gradient(side, "RGBA"), "WEBP", method=0),
    "WebP, lossless with alpha, turned": lambda side: _rotated(gradient(side, "RGBA"), "WEBP", lossless=True, method=0),
    "WebP, animated": lambda side: encoded(
        gradient(side, "RGBA"), "WEBP", method=0, save_all=True, append_images=[gradient(side, "RGBA").rotate(90)]
    ),
    "GIF, transparent": lambda side: encoded(gradient(side).quantize(64), "GIF", transparency=3),
    "BMP, RGBA": lambda side: encoded(gradient(side, "RGBA"), "BMP"),
    "BMP, run lengths": run_length_bmp,
    "TIFF, 16-bit RGBA in one strip": lambda side: _strip(side, 16, 4, 2, {338: (3, [2])}),
    "TIFF, 32-bit fractions in one strip": lambda side: _strip(side, 32, 1, 1, {339: (3, [3])}),
    "TIFF, YCbCr in one strip": lambda side: _strip(side, 8, 3, 6, {530: (3, [1, 1])}),
    "TIFF, LAB": lambda side: _strip(side, 8, 3, 8, {}),
    "TIFF, JPEG": lambda side: encoded(gradient(side), "TIFF", compression="jpeg"),
    "TIFF, CCITT group 4": lambda side: encoded(gradient(side, "1"), "TIFF", compression="group4"),
    "TIFF, 64 x 64 in the largest tile": _largest_tile,
}
