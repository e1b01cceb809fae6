"""Image files that cost their reader far more than their size and pixels say, and what to allow of that.

Pillow walks markers, chunks and blocks in Python, one read each; files that consist of little else keep a thread busy
for minutes. Everything here is told from the bytes, before they are parsed.
"""

from __future__ import annotations

import io

import numpy as np

from model.images.errors import TooManyPiecesError, TruncatedFileError

MAX_READS = 500_000  # less than a second; the pieces of a real file are hundreds or thousands
MAX_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; encoders write ten
MAX_EXIF_SEGMENTS = 100  # joined one by one, each time with a copy of all before it
SHORT_BYTES = 128 * 1024  # of nothing but markers, or of EXIF segments to join: some 25 ms each

_JPEG = b"\xff\xd8"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


def open_file(data: bytes) -> io.BytesIO:
    """The bytes of an image file, to be read in a bounded number of steps. Raises TooManyPiecesError, later ones too.

    A JPEG is read forwards, a byte or more at a time, so that a short one needs no counting: that takes a seventh of
    all the time of a small picture, and with the interpreter's lock held.
    """
    _check_jpeg(data)
    return io.BytesIO(data) if len(data) <= SHORT_BYTES and data.startswith(_JPEG) else EncodedFile(data)


class EncodedFile(io.BytesIO):
    """The bytes of an image file, to be read in at most `MAX_READS` steps."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = self._exif_segments = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, and count: raises TooManyPiecesError beyond the limits."""
        self._reads += 1
        content = super().read(size)
        self._exif_segments += content.startswith(b"Exif\x00\x00")
        if self._reads > MAX_READS or self._exif_segments > MAX_EXIF_SEGMENTS:
            raise TooManyPiecesError
        return content


def _check_jpeg(data: bytes) -> None:
    # All files are looked through. Pairs of bytes, which numpy compares by the dozen, are counted in a quarter of the
    # time; only where there are many is it worth seeing what follows them.
    if data.startswith(_JPEG) and _count_pairs(data, b"\xff\xda") > MAX_SCANS < data.count(b"\xff\xda\x00"):
        raise TooManyPiecesError


def _count_pairs(data: bytes, pair: bytes) -> int:
    [value] = np.frombuffer(pair, np.uint16)
    starts = ((first, (len(data) - first) // 2) for first in (0, 1))
    return sum(int(np.count_nonzero(np.frombuffer(data, np.uint16, count, first) == value)) for first, count in starts)


def check_end(data: bytes) -> None:
    """Raise TruncatedFileError for a PNG without its end: Pillow is content with all pixels."""
    if data.startswith(_PNG) and data.rfind(_PNG_END) < 0:
        raise TruncatedFileError
