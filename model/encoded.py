"""Image files that cost their reader far more than their size and pixels say, and what to allow of that.

Pillow walks markers, chunks and blocks in Python, one read each; files that consist of little else keep a thread busy
for minutes. Everything here is told from the bytes, before they are parsed.
"""

from __future__ import annotations

import io
import struct

import numpy as np

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
        self._reads = self._exif_segments = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file."""
        self._reads += 1
        content = super().read(size)
        self._exif_segments += content.startswith(b"Exif\x00\x00")
        if self._reads > MAX_READS or self._exif_segments > MAX_EXIF_SEGMENTS:
            raise PiecesError
        return content


def _check_jpeg(data: bytes) -> None:
    # All files are looked through. Pairs of bytes, which numpy compares by the dozen, are counted in a quarter of the
    # time; only where there are many is it worth seeing what follows them.
    if data.startswith(b"\xff\xd8") and _count_pairs(data, b"\xff\xda") > MAX_SCANS < data.count(b"\xff\xda\x00"):
        raise PiecesError


def _count_pairs(data: bytes, pair: bytes) -> int:
    [wanted] = np.frombuffer(pair, np.uint16)
    starts = ((first, (len(data) - first) // 2) for first in (0, 1))
    return sum(int(np.count_nonzero(np.frombuffer(data, np.uint16, count, first) == wanted)) for first, count in starts)


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
