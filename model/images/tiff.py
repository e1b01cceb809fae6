"""TIFF files: the directory of the first picture, what of it is needed, and what it declares.

Entries that do not decide the pixels (profiles, EXIF, positions, further pictures) are left out before Pillow and
libtiff see them: they are not used here, and may be as large, as many and as broken as a writer likes.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field

from model.images.errors import TooManyPiecesError

MAX_NUMBERS = 1 << 18  # in one tag, and of strips or tiles: enough for 50 million pixels in tiles of 16 x 16
MAX_ENTRIES = 100_000  # of a directory; a classic one has at most 65,535
MAX_XMP_BYTES = 1 << 20

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP = 256, 257, 258, 259, 262, 277, 278
MAX_SAMPLE, PLANAR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT = 281, 284, 320, 322, 323, 339
S_MAX_SAMPLE, YCBCR_SUBSAMPLING, XMP = 341, 530, 700
_OFFSETS = (273, 324)  # of strips and tiles: Pillow makes an object for each, whatever their type
_NEEDED = frozenset(
    (
        *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, MAX_SAMPLE, PLANAR, COLOUR_MAP),
        *(TILE_WIDTH, TILE_HEIGHT, SAMPLE_FORMAT, S_MAX_SAMPLE, YCBCR_SUBSAMPLING, XMP),
        *(266, 274, 338),  # order of bits in a byte, orientation, extra samples
        *(273, 279, 324, 325),  # where strips and tiles are
        *(292, 293, 317, 332),  # options of CCITT, predictor, kind of inks
        *(347, *range(512, 522), 529, 531, 532),  # of JPEG, and of colours in YCbCr
    )
)
# Those that Pillow and libtiff understand alike, which of a big-endian BigTIFF (MM, 0, 43) they do not.
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<"}
_BIG = 43
_OPAQUE = (1, 2, 7)  # BYTE, ASCII and UNDEFINED stay bytes
JPEG_COMPRESSIONS = (6, 7)
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0.\x08(..)(..)", re.DOTALL)  # height and width
_JPEG_PADDING = 31  # to whole blocks
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q", 17: "q"}
_MAX_READ = 16  # numbers of a tag: a picture has a few samples


@dataclass
class TiffHeader:
    """What the first directory declares; `numbers` has the first few of each tag that decides the pixels."""

    order: str
    jpeg_pixels: int = 0  # of the largest JPEG inside: it need not be of the size of its strip
    numbers: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def first(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        values = self.numbers.get(tag)
        return int(values[0]) if values else default

    @property
    def sample_bits(self) -> tuple[int, ...]:
        """Bits of each sample of a pixel."""
        bits = tuple(int(value) for value in self.numbers.get(BITS, (1,))) or (1,)
        return bits if len(bits) > 1 else bits * min(max(self.first(SAMPLES, 1), 1), _MAX_READ)

    @property
    def block(self) -> tuple[int, int]:
        """Width and height of what is decoded in one go, of at least one pixel: a tile, a strip, or all."""
        width, height = self.first(WIDTH, 1), self.first(HEIGHT, 1)
        if TILE_WIDTH in self.numbers or TILE_HEIGHT in self.numbers:
            width, height = self.first(TILE_WIDTH, width), self.first(TILE_HEIGHT, height)
        else:
            height = min(self.first(ROWS_PER_STRIP, height), height)
        return max(width, 1), max(height, 1)

    @property
    def blocks(self) -> int:
        """How many strips or tiles there are, by the sizes: libtiff takes memory for each."""
        width, height = self.block
        planes = self.first(SAMPLES, 1) if self.first(PLANAR, 1) == 2 else 1
        return -(-self.first(WIDTH, 1) // width) * -(-self.first(HEIGHT, 1) // height) * max(planes, 1)


def read(data: bytes) -> tuple[TiffHeader, bytes] | None:
    """The header, and the file with only the entries that are needed in its directory, and no further directory.

    None of what is no TIFF, or is none that can be read: that is left to Pillow. Raises TooManyPiecesError.
    """
    order = _BYTE_ORDERS.get(data[:4])
    if order is None or len(data) < 16:
        return None
    # offset of the directory, its number of entries, an entry
    where, count, entry = ("8xQ", "Q", "HHQ8s") if data[2] == _BIG else ("4xL", "H", "HHL4s")
    (directory,) = struct.unpack_from(order + where, data)
    start = directory + struct.calcsize(order + count)
    if start > len(data):
        return None
    (entries,) = struct.unpack_from(order + count, data, directory)
    size = struct.calcsize(order + entry)
    if start + entries * size > len(data):
        return None
    if entries > MAX_ENTRIES:
        raise TooManyPiecesError
    header, kept = TiffHeader(order), []
    for position in range(start, start + entries * size, size):
        tag, kind, numbers, value = struct.unpack_from(order + entry, data, position)
        # Of several entries of a tag the first counts, for libtiff too.
        if tag not in _NEEDED or tag in header.numbers or (tag == XMP and numbers > MAX_XMP_BYTES):
            continue
        if numbers > MAX_NUMBERS and (tag in _OFFSETS or kind not in _OPAQUE):
            raise TooManyPiecesError
        header.numbers[tag] = _read_numbers(data, order, kind, numbers, value)
        kept.append(data[position : position + size])
    if header.blocks > MAX_NUMBERS:
        raise TooManyPiecesError
    if header.first(COMPRESSION, 1) in JPEG_COMPRESSIONS:
        header.jpeg_pixels = _largest_jpeg(data)
    if len(kept) == entries:
        return header, data
    end = len(value)  # of an offset, as the one of the next directory that is behind the entries
    written = struct.pack(order + count, len(kept)) + b"".join(kept) + bytes(end)
    return header, b"".join((data[:directory], written, data[directory + len(written) :]))


def _largest_jpeg(data: bytes) -> int:
    sides = (int.from_bytes(side, "big") + _JPEG_PADDING for frame in _JPEG_FRAME.findall(data) for side in frame)
    return max((height * width for height, width in zip(sides, sides, strict=True)), default=0)


def _read_numbers(data: bytes, order: str, kind: int, count: int, value: bytes) -> tuple[float, ...]:
    """The first few numbers of an entry; none of one that has no numbers, or has them beyond the end of the file."""
    code, size = _NUMBERS.get(kind), _SIZES.get(kind, 1)
    if code is None:
        return ()
    start, source = 0, value
    if count * size > len(value):
        start, source = int.from_bytes(value, "little" if order == "<" else "big"), data
    count = min(count, _MAX_READ)
    if start + count * size > len(source):
        return ()
    values = struct.unpack_from(f"{order}{count}{code}", source, start)
    return values if all(map(math.isfinite, values)) else ()
