"""Image files that cost their reader far more than their size and pixels say, and what to allow of that.

Pillow walks markers, chunks and blocks in Python, one read each; files that consist of little else keep a thread busy
for minutes. Everything here is told from the bytes, before they are parsed.
"""

from __future__ import annotations

import io
import struct

MAX_READS = 500_000  # less than a second; the pieces of a real file are hundreds or thousands
MAX_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; encoders write ten
MAX_EXIF_SEGMENTS = 100  # joined one by one, each time with a copy of all before it
MAX_TIFF_NUMBERS = 1 << 18  # in one tag: enough for 50 million pixels in tiles of 16 x 16

_OPAQUE = (1, 2, 7)  # BYTE, ASCII and UNDEFINED stay bytes
_OFFSETS = (273, 324)  # of strips and tiles: Pillow makes an object for each, whatever their type
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_TIFF_BYTE_ORDERS = {b"II": "<", b"MM": ">"}


class CutError(OSError):
    """The file lacks its end."""


class PiecesError(OSError):
    """The file consists of too many pieces."""


class EncodedFile(io.BytesIO):
    """The bytes of an image file, to be read in at most `MAX_READS` steps. Raises PiecesError."""

    def __init__(self, data: bytes) -> None:
        _check_jpeg(data)
        _check_tiff(data)
        super().__init__(data)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise PiecesError
        return super().read(size)


def _check_jpeg(data: bytes) -> None:
    if data.startswith(b"\xff\xd8") and (
        data.count(b"\xff\xda\x00") > MAX_SCANS or data.count(b"Exif\x00\x00") > MAX_EXIF_SEGMENTS
    ):
        raise PiecesError


def check_end(data: bytes) -> None:
    """Raise CutError for a PNG without its end: Pillow is content with all pixels."""
    if data.startswith(_PNG) and data.rfind(_PNG_END) < 0:
        raise CutError


def _check_tiff(data: bytes) -> None:
    order = _TIFF_BYTE_ORDERS.get(data[:2])
    if order is None or len(data) < 16:
        return
    # offset of the directory, its number of entries, an entry: as Pillow tells BigTIFF from TIFF
    where, count, entry = ("8xQ", "Q", "HHQ8x") if data[2] == 43 else ("4xL", "H", "HHL4x")
    (start,) = struct.unpack_from(order + where, data)
    if start + struct.calcsize(order + count) > len(data):
        return
    (entries,) = struct.unpack_from(order + count, data, start)
    start += struct.calcsize(order + count)
    size = struct.calcsize(order + entry)
    stop = start + min(entries, MAX_READS, (len(data) - start) // size) * size
    for tag, kind, numbers in struct.iter_unpack(order + entry, memoryview(data)[start:stop]):
        if numbers > MAX_TIFF_NUMBERS and (tag in _OFFSETS or kind not in _OPAQUE):
            raise PiecesError
