"""What the samples of a picture mean: of any mode and depth, 8 bits each, by what the file declares.

Whole numbers of up to 16 bits run from black, 0, to white: the largest number of so many bits, or what the file names
as its largest. Of 32 bits and of fractions no file says what white is: they are read by the smallest usual range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from model.images.errors import ImageError
from model.images.header import Header
from model.images.png import PngHeader, transparent_sample
from model.images.tiff import COLOUR_MAP, MAX_SAMPLE, PHOTOMETRIC, S_MAX_SAMPLE, SAMPLE_FORMAT, TiffHeader
from model.images.unsupported import misread_tiff

_BAND_PIXELS = 1 << 20  # that are scaled in one go: the arithmetic takes four times their memory
# Modes that Pillow cannot resize or convert in a way that means anything, and what they are turned into first.
_PLAIN_MODES = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
_KEY = "samples"  # in an image's `info`, which stays with it when it is turned; files cannot write to it

_NATIVE = {
    "I;16S": "I;16NS",
    "I;16BS": "I;16NS",
    "I;32S": "I;32NS",
    "I;32BS": "I;32NS",
    "F;32F": "F;32NF",
    "F;32BF": "F;32NF",
}

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """What a file declares of its samples where Pillow's mode does not tell."""

    bits: int = 16
    signed: bool = False
    black_is_high: bool = False
    white: float | None = None


def declare(image: Image.Image, header: Header) -> None:
    """Have an opened picture decoded, and read by `eight_bit`, as its header says where Pillow does otherwise.

    Raises ImageError for what Pillow would decode to something else than the picture.
    """
    if isinstance(header, PngHeader) and "transparency" in image.info:
        image.info["transparency"] = transparent_sample(header, image.info["transparency"])
    if isinstance(header, TiffHeader):
        _declare_tiff(image, header)


def _declare_tiff(image: Image.Image, header: TiffHeader) -> None:
    reason = misread_tiff(header, image.mode)
    if reason is not None:
        raise ImageError("invalid_image", reason)
    white = header.numbers.get(S_MAX_SAMPLE) or header.numbers.get(MAX_SAMPLE)
    image.info[_KEY] = Samples(
        bits=header.sample_bits[0],
        signed=header.first(SAMPLE_FORMAT, 1) == 2,
        black_is_high=PHOTOMETRIC in header.numbers and header.first(PHOTOMETRIC, 1) == 0,
        white=white[0] if white and white[0] > 0 else None,
    )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.tile = [tile._replace(args=_raw_mode(tile, header)) for tile in image.tile]
        colours = image.tag_v2.get(COLOUR_MAP)
        if image.mode in ("P", "PA") and colours and max(colours) < 256:  # 8 bits, though 16 are due; as in libtiff
            image.palette = ImagePalette.raw("RGB;L", tuple(colours))


def _raw_mode(tile: ImageFile._Tile, header: TiffHeader) -> tuple[object, ...] | str | None:
    """The decoder's arguments, corrected.

    libtiff gives numbers in the machine's order, which Pillow minds only for unsigned ones; and planes of 16 bits that
    are not compressed it reads as if they had 8.
    """
    args = tile.args
    if not isinstance(args, tuple) or not isinstance(args[0], str):
        return args
    name = args[0]
    if tile.codec_name == "libtiff":
        name = _NATIVE.get(name, name)
    elif name in tuple("RGBA") and header.sample_bits[0] == 16:
        name += ";16L" if header.order == "<" else ";16B"
    return (name, *args[1:])


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale deep samples to 8 bits; Pillow's own conversion clips them to white."""
    samples = image.info.get(_KEY)
    samples = samples if isinstance(samples, Samples) else Samples()
    if image.mode.startswith("I;16"):
        return _sixteen_bits(image, samples)
    if image.mode in ("I", "F"):
        return _thirty_two_bits(image, samples)
    if image.mode == "L" and samples.signed:
        return image.point([value ^ 0x80 for value in range(256)])
    if image.mode in _PLAIN_MODES:
        return image.convert(_PLAIN_MODES[image.mode])
    return image


def _bands(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """The first row and the pixels [rows, width] of each part."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        part = image if (top, bottom) == (0, image.height) else image.crop((0, top, image.width, bottom))
        yield top, np.asarray(part)


def _sixteen_bits(image: Image.Image, samples: Samples) -> Image.Image:
    white = (1 << samples.bits) - 1 if samples.white is None else min(samples.white, 0xFFFF)
    # The high byte, or high bits, of each: exact where white is all ones.
    levels = np.minimum(np.arange(1 << 16) * 256 // (int(white) + 1), 255).astype(np.uint8)
    if samples.black_is_high:
        levels = 255 - levels
    grey = Image.new("L", image.size)
    transparent = image.info.get("transparency")
    alpha = Image.new("L", image.size) if isinstance(transparent, int) else None
    for top, values in _bands(image):
        grey.paste(Image.fromarray(levels[values]), (0, top))
        if alpha is not None:
            alpha.paste(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)), (0, top))
    return grey if alpha is None else Image.merge("LA", (grey, alpha))


def _thirty_two_bits(image: Image.Image, samples: Samples) -> Image.Image:
    declared = samples if _KEY in image.info else None
    unsigned = declared is not None and image.mode == "I" and samples.bits == 32 and not samples.signed

    def bands() -> Iterator[tuple[int, Floats]]:
        for top, values in _bands(image):
            yield top, (values.view(np.uint32) if unsigned else values).astype(np.float32)

    low, high = np.inf, -np.inf
    for _, values in bands():
        finite = np.isfinite(values)
        low = min(low, float(values.min(where=finite, initial=np.inf)))
        high = max(high, float(values.max(where=finite, initial=-np.inf)))
    grey = Image.new("L", image.size)
    if low > high:
        return grey
    scale, offset, cut = _usual_range(low, high, image.mode == "F", declared)
    for top, values in bands():
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
        values *= scale
        values -= offset
        levels = (np.floor if cut else np.rint)(values, out=values).clip(0, 255, out=values).astype(np.uint8)
        grey.paste(Image.fromarray(255 - levels if samples.black_is_high else levels), (0, top))
    return grey


def _usual_range(low: float, high: float, fractional: bool, declared: Samples | None) -> tuple[float, float, bool]:
    """Factor and offset to 0..255, and whether to cut instead of to round.

    By the white that is declared, else by the smallest usual range that holds all: 0..1 (only where samples may be
    `fractional`), 0..255, and 0..65535 or what 16 signed bits hold of it. Beyond that whole numbers of a file have the
    range that it declares; others are stretched. NaN and the infinities take the ends of what is there.
    """
    wide = 0x7FFF if declared and declared.signed and declared.bits == 16 else 0xFFFF
    if declared and declared.white is not None and low >= 0:
        return 255 / declared.white, 0.0, False
    if declared and not fractional and (low < 0 or high > wide):
        least = -float(1 << (declared.bits - 1)) if declared.signed and low < 0 else 0.0
        most = float(1 << (declared.bits - declared.signed)) - 1
        low, high = least, most
    if low < 0 or high > wide:
        # Bounded so that the factor is a float32, however narrow the range.
        factor = min(255 / (high - low), 1e38) if high > low else 0.0
        return factor, low * factor, False
    if high > 0xFF:
        return 256 / (wide + 1), 0.0, True  # as 16-bit samples are: the high byte
    return (255.0 if fractional and high <= 1 else 1.0), 0.0, False
