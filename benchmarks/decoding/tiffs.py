"""TIFF files of any layout, also of those that no library writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

TILES, TILE_BYTES, STRIPS, STRIP_BYTES = 324, 325, 273, 279
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 11: "f", 16: "Q"}

Tags = Mapping[int, tuple[int, Sequence[float]]]  # type and numbers of each


def tiff(tags: Tags, blocks: Sequence[bytes], order: str = "<", tiled: bool = False, big: bool = False) -> bytes:
    """A file of one directory behind its strips or tiles; `order` is that of `struct`."""
    start = 16 if big else 8
    offsets = [start + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    kind = 16 if big else 4
    places = {TILES: (kind, offsets), TILE_BYTES: (kind, [*map(len, blocks)])}
    if not tiled:
        places = {STRIPS: places[TILES], STRIP_BYTES: places[TILE_BYTES]}
    body = b"".join(blocks)
    body += b"\0" * (len(body) % 2)
    return _head(order, big, start + len(body)) + body + _directory({**tags, **places}, order, big, start + len(body))


def _head(order: str, big: bool, directory: int) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    if big:
        return mark + struct.pack(order + "HHHQ", 43, 8, 0, directory)
    return mark + struct.pack(order + "HI", 42, directory)


def _directory(tags: Tags, order: str, big: bool, start: int) -> bytes:
    count, entry, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    size = struct.calcsize(order + entry) + room
    behind = start + struct.calcsize(order + count) + size * len(tags) + room
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        entries += struct.pack(order + entry, tag, kind, len(numbers))
        if len(content) > room:
            entries += struct.pack(order + ("Q" if big else "I"), behind + len(values))
            values += content + b"\0" * (len(content) % 2)
        else:
            entries += content.ljust(room, b"\0")
    return struct.pack(order + count, len(tags)) + entries + b"\0" * room + values


def layout(
    width: int, height: int, bits: int = 8, samples: int = 1, photometric: int = 1, compression: int = 8
) -> dict[int, tuple[int, Sequence[float]]]:
    """The tags of one strip, deflated unless told otherwise."""
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * samples),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [samples]),
        278: (4, [height]),
    }


def one_tile(side: int, **options: int) -> bytes:
    """64 x 64 pixels in one tile of `side` x `side`, of which the file has a few bytes."""
    tags = {**layout(64, 64, **options), 322: (4, [side]), 323: (4, [side])}
    del tags[278]
    return tiff(tags, [zlib.compress(bytes(10))], tiled=True)
