"""Why a file of an accepted format cannot be read, where it is neither cut nor corrupt: told from its header."""

from __future__ import annotations

import struct

from PIL import TiffImagePlugin

from model.images import png
from model.images.header import Header
from model.images.jpeg import JpegHeader
from model.images.tiff import COMPRESSION, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT, YCBCR_SUBSAMPLING, TiffHeader

_READ_FRAMES = (0, 0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)
_READ_LAYERS = (0, 1, 3, 4)
_READ_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32809, 32946, 34925, 50000)
_PHOTOMETRIC = {0: "grey, white is 0", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB"}
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 4: "undefined", 5: "complex", 6: "complex"}
_RAW, _SEPARATE = 1, 2
_BMP_MASKS = (
    (0xF800, 0x7E0, 0x1F),
    (0x7C00, 0x3E0, 0x1F),
    (0xFF0000, 0xFF00, 0xFF),
    (0xFF000000, 0xFF0000, 0xFF00),
    (0xFF000000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000),
    (0, 0, 0),
)
_BMP_DEPTHS, _BMP_COMPRESSIONS = (1, 4, 8, 16, 24, 32), (0, 1, 2, 3)


def unsupported(data: bytes, header: Header) -> str | None:
    """What of the file is not read, and what to save it as; None if nothing is known."""
    if isinstance(header, TiffHeader):
        return _tiff(header)
    if isinstance(header, JpegHeader):
        return _jpeg(header)
    if isinstance(header, png.PngHeader):
        return _png(header)
    if data.startswith(b"MM\0+"):
        return "the image is no readable kind of TIFF, a big-endian BigTIFF: save it as an ordinary TIFF"
    return _bmp(data) if data.startswith(b"BM") else None


def misread_tiff(header: TiffHeader, mode: str) -> str | None:
    """What Pillow would decode to something else than the picture, as `unsupported`; `mode` is Pillow's."""
    raw, separate = header.first(COMPRESSION, 1) == _RAW, header.first(PLANAR, 1) == _SEPARATE
    subsampling = header.numbers.get(YCBCR_SUBSAMPLING, (2, 2))
    if raw and mode == "YCbCr" and (separate or any(factor != 1 for factor in subsampling)):
        return "the image's samples (uncompressed YCbCr, subsampled or in planes) are not read: save it as RGB"
    read = mode in ("RGB", "RGBA") or (mode == "CMYK" and (not raw or header.sample_bits[0] == 8))
    if not separate or len(header.sample_bits) == 1 or read:
        return None
    return f"the image's samples (mode {mode}, in separate planes) are not read: save it as RGB, pixel by pixel"


def _tiff(header: TiffHeader) -> str | None:
    compression = header.first(COMPRESSION, 1)
    if compression not in _READ_COMPRESSIONS:
        return f"the image's TIFF compression ({compression}) is not read: save it with LZW or deflate"
    if _is_known(header):
        return None
    bits = header.sample_bits
    depths = str(bits[0]) if len(set(bits)) == 1 else ", ".join(map(str, bits))
    kind = _FORMATS.get(header.first(SAMPLE_FORMAT, 1), "unknown")
    photometric = header.first(PHOTOMETRIC, 0)
    colours = _PHOTOMETRIC.get(photometric, f"photometric interpretation {photometric}")
    order = "little-endian" if header.order == "<" else "big-endian"
    return (
        f"the image's samples (TIFF, {colours}, {len(bits)} of {depths} bits, {kind}, {order}) are not read: "
        "save it as RGB with 8 bits a sample"
    )


def _is_known(header: TiffHeader) -> bool:
    """Whether Pillow reads samples of this kind in this order of bytes, with or without extra ones."""
    kind = (b"II" if header.order == "<" else b"MM", header.first(PHOTOMETRIC, 0), header.first(SAMPLE_FORMAT, 1))
    return any(
        (prefix, photometric, formats[0], bits) == (*kind, header.sample_bits)
        for prefix, photometric, formats, _, bits, _ in TiffImagePlugin.OPEN_INFO
    )


def _jpeg(header: JpegHeader) -> str | None:
    if header.bits not in (0, 8):
        return f"the image is a JPEG of {header.bits} bits a sample, which is not read: save it with 8"
    if header.frame not in _READ_FRAMES:
        return f"the image is a JPEG of a kind (SOF{header.frame - 0xC0}) that is not read: save it as a baseline JPEG"
    if len(header.sampling) not in _READ_LAYERS:
        return f"the image is a JPEG of {len(header.sampling)} components, which is not read: save it as RGB"
    return None


def _png(header: png.PngHeader) -> str | None:
    if (header.colour, header.bits) not in png.KINDS:
        kind = f"colour type {header.colour} with {header.bits} bits"
        return f"the image is a PNG of {kind}, which no standard knows: save it as RGB"
    return None


def _bmp(data: bytes) -> str | None:
    if len(data) < 34:
        return None
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        (bits,), compression = struct.unpack_from("<H", data, 24), 0
    else:
        bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in _BMP_DEPTHS:
        return f"the image is a BMP of {bits} bits a pixel, which is not read: save it with 24"
    if compression not in _BMP_COMPRESSIONS:
        return f"the image is a BMP of compression {compression}, which is not read: save it uncompressed"
    masks = struct.unpack_from("<3I", data, 54) if compression == 3 and len(data) >= 66 else None
    if masks and masks not in _BMP_MASKS:
        return (
            f"the image is a BMP whose colours lie in unusual bits ({', '.join(f'{mask:X}' for mask in masks)}), "
            "which is not read: save it with 24 bits a pixel"
        )
    return None
