"""What decoding a file takes memory for, told from its header before anything is decoded.

Pixels are only a part of it: decoders keep coefficients, canvases, whole tiles or strips, and rows. The figures are
upper bounds; `python -m benchmarks.decoding` measures them.
"""

from __future__ import annotations

from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from model.images.header import Header
from model.images.jpeg import COEFFICIENT_BYTES, JpegHeader
from model.images.tiff import PHOTOMETRIC, ROWS_PER_STRIP, TiffHeader

BYTES_PER_PIXEL = 16  # that a picture of any format may take from its file to the square
ALLOWANCE = 32 << 20  # for what does not depend on the number of pixels

_SAMPLE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # others have four
_ROW_BYTES = 8  # Pillow keeps the address of each row
_SIDE_BYTES = 32  # the widest filter has four weights to a pixel of the side
_WEBP_CANVASES, _RGBA_BYTES = 2, 4  # of libwebp's animation decoder; they are gone when the picture is copied
_YCBCR, _WHOLE = 6, 0xFFFFFFFF
_BLOCK_ENTRY_BYTES = 32  # that libtiff and Pillow keep of a strip or tile


def decoding_bytes(image: Image.Image, header: Header) -> int:
    """What decoding an opened picture and preprocessing it takes at most, its file not counted."""
    width, height = image.size
    stored = _image_bytes(image.mode, width, height)
    # Behind the decoder a picture is turned, into a second one of its kind, and then made RGB.
    after = stored + max(stored, _image_bytes("RGB", width, height)) + _SIDE_BYTES * (width + height)
    return max(stored + _decoder_bytes(image, header), after)


def _image_bytes(mode: str, width: int, height: int) -> int:
    row = -(-width * _SAMPLE_BYTES.get(mode, 4) // 4) * 4
    return (row + _ROW_BYTES) * height


def _decoder_bytes(image: Image.Image, header: Header) -> int:
    """Bytes that the format's decoder needs beside the decoded image."""
    width, height = image.size
    if isinstance(image, JpegImagePlugin.JpegImageFile) and isinstance(header, JpegHeader):
        return _jpeg_bytes(header)
    if isinstance(image, PngImagePlugin.PngImageFile):
        return 3 * 8 * width  # a row of four samples of 16 bits, the one before it, and one for interlacing
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return _WEBP_CANVASES * _RGBA_BYTES * width * height
    if isinstance(image, TiffImagePlugin.TiffImageFile) and isinstance(header, TiffHeader):
        return _tiff_bytes(header, width)
    if isinstance(image, BmpImagePlugin.BmpImageFile) and image.tile and image.tile[0][0] == "bmp_rle":
        return 3 * width * height  # the bytes that Pillow unpacks to, which grow by parts, and a copy
    return 8 * width  # a row


def _jpeg_bytes(header: JpegHeader) -> int:
    rows = 64 * len(header.sampling) * header.width  # some rows of blocks, and of what becomes of them
    return rows + (header.coefficient_bytes() if header.is_buffered else 0)


def _tiff_bytes(header: TiffHeader, width: int) -> int:
    block_width, block_height = header.block
    pixels = block_width * block_height
    needed = pixels * sum(header.sample_bits) // 8 + block_width + _BLOCK_ENTRY_BYTES * header.blocks
    if header.first(PHOTOMETRIC, 0) == _YCBCR:
        rows = header.first(ROWS_PER_STRIP, _WHOLE)
        # As RGBA, of all rows that a strip is said to have.
        needed += _RGBA_BYTES * width * max(block_height, rows if rows != _WHOLE else 0) + _RGBA_BYTES * pixels
    return needed + 16 * width + COEFFICIENT_BYTES * len(header.sample_bits) * header.jpeg_pixels
