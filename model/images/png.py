"""PNG files: the chunks that decide the pixels, and what their header declares.

Everything else in the file (texts, colour profiles, animation) is left out before Pillow sees it: it is not used here,
and Pillow gives up the picture where such a chunk is large or broken.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from model.images.errors import ImageError, TooManyPiecesError

MAX_CHUNKS = 100_000  # 0.1 s; of a PNG of 50 million pixels in chunks of 8 KiB, 25,000
MAX_TEXT_BYTES = 1 << 20  # of a compressed text that is kept; Pillow's own limit

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"))
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
# Texts that may say which side is up, where no eXIf chunk does.
_ORIENTING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
# Colour types and depths that the standard knows.
KINDS = frozenset(
    [(0, bits) for bits in (1, 2, 4, 8, 16)]
    + [(3, bits) for bits in (1, 2, 4, 8)]
    + [(colour, bits) for colour in (2, 4, 6) for bits in (8, 16)]
)


@dataclass(frozen=True)
class PngHeader:
    """What IHDR declares; `bits` are those of a sample."""

    width: int
    height: int
    bits: int
    colour: int


def is_png(data: bytes) -> bool:
    """Whether the data begin with the signature of a PNG."""
    return data.startswith(_SIGNATURE)


def read_header(data: bytes) -> PngHeader | None:
    """None of what is no PNG, or is one without IHDR in its place."""
    if not is_png(data) or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    return PngHeader(*struct.unpack_from(">IIBB", data, 16))


def without_metadata(data: bytes) -> bytes:
    """The chunks that are needed, up to IEND; all of a file from the first irregular one on.

    Raises TooManyPiecesError, and ImageError for a chunk that says that the picture cannot be understood without it.
    """
    parts, start, position = [], 0, len(_SIGNATURE)
    for name, first, stop in _chunks(data):
        if name[:1].isupper() and name not in _NEEDED:
            message = (
                f"the image is a PNG with a chunk {name.decode('ascii')} that is not read: save it as ordinary PNG"
            )
            raise ImageError("invalid_image", message)
        if not _is_needed(name, data, first + 8, stop - 4):
            parts.append(data[start:first])
            start = stop
        position = stop
    if not parts:
        return data
    ended = data[position - 8 : position - 4] == b"IEND"
    return b"".join((*parts, data[start : position if ended else len(data)]))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk until IEND, or until what is none. Raises TooManyPiecesError."""
    position = len(_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        head = data[position : position + 8]
        name, stop = head[4:], position + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or not name.isalpha() or stop > len(data):
            return
        yield name, position, stop
        if name == b"IEND":
            return
        position = stop
    raise TooManyPiecesError


def _is_needed(name: bytes, data: bytes, first: int, stop: int) -> bool:
    if name in _TEXTS:
        return data.startswith(_ORIENTING, first) and _is_small_text(name, data[first:stop])
    return name in _NEEDED


def _is_small_text(name: bytes, content: bytes) -> bool:
    """Whether it has at most MAX_TEXT_BYTES once it is decompressed."""
    _, _, rest = content.partition(b"\0")
    if name == b"tEXt" or (name == b"iTXt" and rest[:1] == b"\0"):
        return len(rest) <= MAX_TEXT_BYTES
    packed = rest[1:] if name == b"zTXt" else b"".join(rest[2:].split(b"\0", 2)[2:])
    text = zlib.decompressobj()
    try:
        text.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return not text.unconsumed_tail


def transparent_sample(header: PngHeader, declared: object) -> object:
    """What `declared` in tRNS, in samples of the file, is in the samples that Pillow makes of them.

    Of 16-bit colours Pillow keeps the high byte, and so does this: all colours that share it are transparent.
    """
    if header.colour == 0 and header.bits in (2, 4) and isinstance(declared, int):
        return declared * (255 // ((1 << header.bits) - 1))
    if header.colour == 2 and header.bits == 16 and isinstance(declared, tuple):
        return tuple(value >> 8 for value in declared)
    return declared
