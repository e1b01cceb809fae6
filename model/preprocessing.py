"""From the bytes of an image file to the square of uint8 pixels that an image graph takes.

The geometry is that of OpenAI's CLIP: Pillow's anti-aliased resize of the shortest side, then the centre crop.
Everything here may run in many threads at once; Pillow's global settings are read, never written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from model.config import Preprocessing
from model.encoded import EncodedFile, PiecesError, check_end
from model.geometry import Box, square, turn

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000

# Pillow loads a decoder when it first meets a format, and all of them, forty, when that fails. Loading ours now makes
# the first picture as fast as the second and keeps the others out of the process.
for _decoder in ("Bmp", "Gif", "Mpo", "Png", "Tiff", "WebP"):
    import_module(f"PIL.{_decoder}ImagePlugin")
Image.preinit()  # what is left of that, lest a first picture be called corrupt while no file can be opened

_BLOCK_SIDE = 2048
# Modes that Pillow cannot resize or convert in a way that means anything, and what they are turned into first.
_PLAIN_MODES = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}


class ImageError(ValueError):
    """A picture that cannot be used; `code` is the HTTP contract's, the message says what to change."""

    def __init__(self, code: Literal["invalid_image", "image_too_large"], message: str) -> None:
        super().__init__(message)
        self.code = code


class Opened:
    """A picture of which only the header has been read; `size` is what `load` will decode."""

    def __init__(self, image: Image.Image, box: Box | None) -> None:
        """`box` is where in `image` the picture is if it will be decoded at less than its size, else None."""
        self._images = [image]
        self.size, self.box = image.size, box

    def load(self) -> None:
        """Decode. Raises ImageError."""
        with _told_as_image_errors():
            self._images[0].load()

    def take(self) -> Image.Image:
        """Hand the picture over, so that nobody else holds it when a copy of it takes its place."""
        return self._images.pop()


def load_image(data: bytes, config: Preprocessing, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode and preprocess an image file: uint8 [size, size, 3]."""
    opened = open_header(data, max_pixels, config.draft_size)
    opened.load()
    return preprocess(opened.take(), config, opened.box)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the first frame of an image file, whose format is told by its content.

    The size in the header is checked before anything is decoded. Pillow's own limit, twice `Image.MAX_IMAGE_PIXELS`
    (179 million unless the program set it), stays in force above `max_pixels`: it is global, so it is not ours to lift.
    """
    opened = open_header(data, max_pixels)
    opened.load()
    return opened.take()


def open_header(data: bytes, max_pixels: int = MAX_PIXELS, draft_size: int | None = None) -> Opened:
    """Read the header of an image file; nothing is decoded yet.

    With `draft_size`, a JPEG is going to be decoded at 1/2, 1/4 or 1/8 of its size where that leaves both sides at
    least twice `draft_size`: several times faster for camera pictures, with no visible difference once resized.
    """
    with _told_as_image_errors():
        image = Image.open(EncodedFile(data), formats=ACCEPTED_FORMATS)
        _check_size(image.size, max_pixels)
        check_end(data)
        box = None
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            # In one go: by default, the decoder comes back to Python, and waits for its turn, every 64 KiB.
            image.decodermaxblock = len(data)
            if draft_size is not None:
                box = _draft(image, draft_size)
        return Opened(image, box)


@contextmanager
def _told_as_image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError("image_too_large", "the image is too large to decode: scale it down") from error
    except PiecesError as error:
        message = "the image file consists of far more pieces than usual: save it again and send that"
        raise ImageError("invalid_image", message) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "invalid_image", f"the image is not a readable file of an accepted format: send {_formats()}"
        ) from error
    # Decoders report damaged files by almost any exception: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise ImageError("invalid_image", "the image is truncated or corrupt: send the complete file") from error


def preprocess(image: Image.Image, config: Preprocessing, box: Box | None = None) -> npt.NDArray[np.uint8]:
    """Orient, flatten, resize and crop a picture of any Pillow mode: uint8 [size, size, 3].

    `box` is where in `image` the picture is, if it was decoded at less than its size.
    """
    _check_size(image.size, max_pixels=None)
    try:
        if config.exif_orientation:
            image, box = turn(image, box, _orientation(image))
        image = eight_bit(image)
        if config.alpha == "white":
            image = _on_white(image)
        return np.array(square(image, box, config).convert("RGB"))
    # Broken palettes and transparency tables come to light only here, by several exceptions.
    except Exception as error:
        raise ImageError(
            "invalid_image", f"the image's colours (mode {image.mode}) cannot be read: save it as RGB and send that"
        ) from error


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    if min(size) < 1:
        raise ImageError("invalid_image", "the image has no pixels: send one of at least 1 x 1")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            "image_too_large",
            f"the image has {width:,} x {height:,} pixels: scale it down to at most {max_pixels:,} in all",
        )


def _draft(image: JpegImagePlugin.JpegImageFile, draft_size: int) -> Box | None:
    """Have it decoded at less than its size, if it is large enough: where in what is decoded the picture is.

    A side that is not divided evenly is rounded up: a part of its last pixel is beyond the picture's edge.
    """
    scale = next((s for s in (8, 4, 2) if min(image.size) >= 2 * draft_size * s), 1)
    if scale == 1:
        return None
    drafted = image.draft(image.mode, (image.width // scale, image.height // scale))
    return drafted and drafted[1]


def _formats() -> str:
    return f"{', '.join(ACCEPTED_FORMATS[:-1])} or {ACCEPTED_FORMATS[-1]}"


def _orientation(image: Image.Image) -> object:
    # EXIF is read by a parser of its own for every format; when it is broken, the picture is still good.
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale deep pixels to 8 bits by their value range; Pillow's own conversion clips them to white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_scale_to_bytes(np.array(image, dtype=np.float32), fractional=image.mode == "F"))
    if image.mode in _PLAIN_MODES:
        return image.convert(_PLAIN_MODES[image.mode])
    return image


def _scale_to_bytes(values: npt.NDArray[np.float32], fractional: bool) -> npt.NDArray[np.uint8]:
    """Map 32-bit pixels to 0..255, in place, by the smallest usual range that holds them all.

    The usual ranges are 0..1 (only where values may be `fractional`), 0..255 and 0..65535; any other is stretched.
    NaN and the infinities take the ends of the finite values.
    """
    finite = np.isfinite(values)
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    if low > high:
        return np.zeros(values.shape, np.uint8)
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    if low < 0 or high > 0xFFFF:
        # Bounded so that the factor is a float32, however narrow the range.
        factor = min(255 / (high - low), 1e38) if high > low else 0.0
        values *= factor
        values -= low * factor
    elif high > 0xFF:
        # As 16-bit pixels are: the high byte.
        return np.floor_divide(values, 256, out=values).astype(np.uint8)
    elif fractional and high <= 1:
        values *= 255
    return np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return _blended(image)
    if image.mode in ("RGB", "L"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _blended(image: Image.Image) -> Image.Image:
    """Composite on white, by blocks: blending takes four times the memory of what it blends."""
    if max(image.size) <= _BLOCK_SIDE:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    opaque = Image.new("RGB", image.size)
    for left, top in product(*(range(0, side, _BLOCK_SIDE) for side in image.size)):
        block = (left, top, min(left + _BLOCK_SIDE, image.width), min(top + _BLOCK_SIDE, image.height))
        opaque.paste(_blended(image.crop(block)), block)
    return opaque
