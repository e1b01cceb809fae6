"""JPEG files: the segments that decide the pixels, and what decoding takes.

Other segments before the first scan (profiles, comments, all but the first of EXIF and XMP) are left out before Pillow
sees them: they are not used here, and Pillow gives up the picture where one is broken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model.images.errors import TooManyPiecesError

MAX_SEGMENTS = 50_000  # before the first scan; of a real file, tens
_DCT = 8  # side of a block
COEFFICIENT_BYTES = 2

_START, _SCAN, _PADDING = b"\xff\xd8", 0xDA, 0xFF
_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))  # of applications, and comments
_NO_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9), _PADDING))  # that stand alone
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
# How colours are coded is told by these two; which side is up, by the others, of which the first counts.
_COLOUR = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}  # with the least length that says something
_ORIENTING = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")


@dataclass
class JpegHeader:
    """What comes before the first scan. `sampling` has the horizontal and vertical factor of each component."""

    frame: int = 0  # the marker
    bits: int = 0
    width: int = 0
    height: int = 0
    sampling: list[tuple[int, int]] = field(default_factory=list)
    in_first_scan: int = 0

    @property
    def is_buffered(self) -> bool:
        """Whether the coefficients of the whole picture have to be kept, because several scans tell of them."""
        return self.frame in _PROGRESSIVE or 0 < self.in_first_scan < len(self.sampling)

    def coefficient_bytes(self) -> int:
        """What libjpeg keeps of a picture of several scans, at its full size even if less is decoded."""
        widest = max((h for h, _ in self.sampling), default=1) or 1
        tallest = max((v for _, v in self.sampling), default=1) or 1
        units = -(-self.width // (_DCT * widest)) * -(-self.height // (_DCT * tallest))
        return units * sum(h * v for h, v in self.sampling) * _DCT * _DCT * COEFFICIENT_BYTES


def is_jpeg(data: bytes) -> bool:
    """Whether the data begin with the marker of a JPEG."""
    return data.startswith(_START)


def read(data: bytes) -> tuple[JpegHeader, bytes]:
    """The header, and the file without unneeded segments before its first scan. Raises TooManyPiecesError."""
    header, parts, seen = JpegHeader(), [], set[bytes]()
    start, position, last = 0, 2, len(data) - 4
    for _ in range(MAX_SEGMENTS):
        if data[position : position + 1] != b"\xff":  # decoders look for the next marker
            position = data.find(b"\xff", position)
        if not 0 <= position <= last:
            break
        marker = data[position + 1]
        if marker in _NO_LENGTH:
            position += 1 if marker == _PADDING else 2
            continue
        stop = position + 2 + (data[position + 2] << 8 | data[position + 3])
        if stop > len(data) or stop < position + 4:
            break
        if marker in _METADATA:
            if not _is_needed(marker, data[position + 4 : stop], seen):
                parts.append(data[start:position])
                start = stop
        elif marker in _FRAMES:
            if not header.frame:
                _read_frame(header, marker, data[position + 4 : stop])
        elif marker == _SCAN:
            header.in_first_scan = data[position + 4] if stop > position + 4 else 0
            break
        position = stop
    else:
        raise TooManyPiecesError
    return header, b"".join((*parts, data[start:])) if parts else data


def _is_needed(marker: int, content: bytes, seen: set[bytes]) -> bool:
    if marker in _COLOUR:
        name, length = _COLOUR[marker]
        return content.startswith(name) and len(content) >= length
    orienting = next((name for name in _ORIENTING if content.startswith(name)), None)
    if marker != 0xE1 or orienting is None or orienting in seen:
        return False
    seen.add(orienting)
    return True


def _read_frame(header: JpegHeader, marker: int, content: bytes) -> None:
    header.frame = marker
    if len(content) < 6:
        return
    header.bits = content[0]
    header.height, header.width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    factors = content[7 : 6 + 3 * content[5] : 3]
    header.sampling = [(factor >> 4, factor & 15) for factor in factors]
