"""From the bytes of an image file to the square of uint8 pixels that an image graph takes.

The geometry is that of OpenAI's CLIP: Pillow's anti-aliased resize of the shortest side, then the centre crop.
Everything here may run in many threads at once; Pillow's global settings are read, never written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from itertools import product
from types import TracebackType

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError, WebPImagePlugin

from model.config import Preprocessing
from model.images import header as headers
from model.images.encoded import check_end, open_file
from model.images.errors import ImageError, TooManyPiecesError, TruncatedFileError
from model.images.geometry import Box, apply_orientation, resize_and_crop
from model.images.header import Header
from model.images.memory import ALLOWANCE, BYTES_PER_PIXEL, decoding_bytes
from model.images.samples import declare, eight_bit
from model.images.unsupported import unsupported

__all__ = ["ACCEPTED_FORMATS", "MAX_PIXELS", "ImageError", "Opened", "decode", "eight_bit", "load_image", "open_header"]
__all__ += ["Resize", "orientation", "preprocess", "resize_with_pillow"]

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000

# Pillow loads a decoder when it first meets a format, and all of them, forty, when that fails. Loading ours now makes
# the first picture as fast as the second and keeps the others out of the process.
for _decoder in ("Bmp", "Gif", "Mpo", "Png", "Tiff", "WebP"):
    import_module(f"PIL.{_decoder}ImagePlugin")
Image.preinit()  # what is left of that, lest a first picture be called corrupt while no file can be opened

Resize = Callable[[Image.Image, Box | None, Preprocessing], npt.NDArray[np.uint8]]
_BLOCK_SIDE = 1024  # of what is composited in one go: five times its memory, 20 MiB


class Opened:
    """A picture of which only the header has been read.

    `size` is what `load` will decode; `pixels` how many that is, or more if decoding takes the memory of more.
    """

    def __init__(self, image: Image.Image, box: Box | None, header: Header, needed: int) -> None:
        """`box` is where in `image` the picture is if it will be decoded at less than its size, else None.

        `needed` is the memory that decoding takes, in bytes.
        """
        self._images, self._header = [image], header
        self.size, self.box = image.size, box
        self.pixels = max(math.prod(image.size), needed // BYTES_PER_PIXEL)

    def load(self) -> None:
        """Decode. Raises ImageError."""
        image = self._images.pop()
        with _AsImageErrors(b"", self._header):
            if isinstance(image, WebPImagePlugin.WebPImageFile):
                image = _decode_webp(image)
            else:
                image.load()
        self._images.append(image)

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

    Raises ImageError, also if decoding would take more than BYTES_PER_PIXEL for each of `max_pixels`.
    """
    header = None
    with _AsImageErrors(data, header):
        header, needed_part = headers.read(data)
    with _AsImageErrors(data, header):
        size = headers.webp_size(data)
        if size is not None:
            _check_size(size, max_pixels)  # before the decoder takes memory for it
        image = Image.open(open_file(needed_part), formats=ACCEPTED_FORMATS)
        _check_size(image.size, max_pixels)
        check_end(data)
        if not headers.is_complete(header, image.format):
            raise TruncatedFileError
        declare(image, header)
        box = None
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            # In one go: by default, the decoder comes back to Python, and waits for its turn, every 64 KiB.
            image.decodermaxblock = len(data)
            if draft_size is not None:
                box = _draft(image, draft_size)
        needed = decoding_bytes(image, header)
        _check_memory(image, needed, max_pixels)
        return Opened(image, box, header, needed)


class _AsImageErrors:
    """Whatever is raised in the `with` as an ImageError. A class: a generator takes three times as long."""

    def __init__(self, data: bytes, header: Header) -> None:
        self._data, self._header = data, header

    def __enter__(self) -> None:
        return

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, ImageError):
            raise _to_image_error(error, self._data, self._header) from error


def _to_image_error(error: Exception, data: bytes, header: Header) -> ImageError:
    match error:
        case Image.DecompressionBombError() | Image.DecompressionBombWarning() | MemoryError():
            return ImageError("image_too_large", "the image is too large to decode: scale it down")
        case TooManyPiecesError():
            message = "the image file consists of far more pieces than usual: save it again and send that"
            return ImageError("invalid_image", message)
        case UnidentifiedImageError():
            message = f"the image is not a readable file of an accepted format: send {_formats()}"
        case _:  # decoders report damaged files by almost any: OSError, SyntaxError, struct.error, IndexError, ...
            message = "the image is truncated or corrupt: send the complete file"
    return ImageError("invalid_image", unsupported(data, header) or message)


def resize_with_pillow(image: Image.Image, box: Box | None, config: Preprocessing) -> npt.NDArray[np.uint8]:
    """An upright picture, or what is in `box` of it, as the square [size, size, 3] that the image tower sees."""
    square = resize_and_crop(image, box, config)
    return np.array(square if square.mode == "RGB" else square.convert("RGB"))


def preprocess(
    image: Image.Image, config: Preprocessing, box: Box | None = None, resize: Resize = resize_with_pillow
) -> npt.NDArray[np.uint8]:
    """Orient, flatten, resize and crop a picture of any Pillow mode: uint8 [size, size, 3].

    `box` is where in `image` the picture is, if it was decoded at less than its size.
    """
    _check_size(image.size, max_pixels=None)
    try:
        if config.exif_orientation:
            image, box = apply_orientation(image, box, orientation(image))
        image = eight_bit(image)
        if config.alpha == "white":
            image = _on_white(image)
        return resize(image, box, config)
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


def _decode_webp(image: WebPImagePlugin.WebPImageFile) -> Image.Image:
    """As `load`, but the decoder, which keeps two more copies of the picture, is gone before a third is made."""
    pixels, _, _ = image._get_next()
    del image._decoder
    decoded = Image.frombytes(image.mode, image.size, pixels, "raw", image.rawmode)
    decoded.info, decoded.format = image.info, image.format  # with them EXIF stays
    return decoded


def _check_memory(image: Image.Image, needed: int, max_pixels: int) -> None:
    most = BYTES_PER_PIXEL * max_pixels + ALLOWANCE
    if needed > most:
        width, height = image.size
        raise ImageError(
            "image_too_large",
            f"decoding the image ({image.format}, {width:,} x {height:,} pixels) would take {needed >> 20:,} MiB, more "
            f"than {most >> 20:,}: scale it down, and save it in smaller tiles or strips and in one scan",
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


def orientation(image: Image.Image) -> object:
    """The EXIF orientation of a picture. EXIF is parsed apart: when it is broken, the picture is still good."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None


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
