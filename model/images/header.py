"""The header of an image file of any format, and the part of the file that decides the pixels."""

from __future__ import annotations

from model.images import jpeg, png, tiff

Header = jpeg.JpegHeader | png.PngHeader | tiff.TiffHeader | None  # None: of another format, or not to be read


def read(data: bytes) -> tuple[Header, bytes]:
    """The header, and the file without what is not needed of it. Raises ImageError, TooManyPiecesError."""
    if jpeg.is_jpeg(data):
        return jpeg.read(data)
    if png.is_png(data):
        return png.read_header(data), png.without_metadata(data)
    return tiff.read(data) or (None, data)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP picture, for which its decoder takes memory as soon as the file is opened."""
    if not (data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30):
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def is_complete(header: Header, format_name: str | None) -> bool:
    """Whether a file that Pillow takes for one of this format has a header that says what decoding it takes."""
    if format_name in ("JPEG", "MPO"):
        return isinstance(header, jpeg.JpegHeader) and header.frame != 0
    kinds: dict[str | None, type] = {"PNG": png.PngHeader, "TIFF": tiff.TiffHeader}
    return format_name not in kinds or isinstance(header, kinds[format_name])
