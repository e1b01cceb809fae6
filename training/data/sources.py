"""The samples of a source, whatever its form, without their pictures; and the reader of these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from training.config import Source
from training.data.entry import ROW, WHOLE, Entry, Place
from training.data.files import MAX_PICTURE_BYTES, read_bounded
from training.data.folders import scan_folder
from training.data.parquet import PictureColumns
from training.data.shards import find_shards, scan_shard
from training.data.tables import scan_tables
from training.data.troubles import Troubles


def scan(source: Source, base: Path, troubles: Troubles) -> Iterator[Entry]:
    """All samples of `source` that can be drawn, in an order that depends on their names alone.

    Raises ShardError if a pattern matches nothing or a table lacks the columns.
    """
    if source.folder:
        for folder in source.folder:
            yield from scan_folder(base / folder, source, troubles)
    elif source.table:
        yield from scan_tables(find_shards(source.table, base), source, troubles)
    else:
        for shard in find_shards(source.shards, base):
            yield from scan_shard(shard, troubles, source.encoding)


class PictureReader:
    """Reads the bytes of pictures by their places; may be used by many threads."""

    def __init__(self) -> None:
        self._columns = PictureColumns()

    def read(self, place: Place) -> bytes:
        """Raises OSError."""
        if place.size == WHOLE:
            return read_bounded(place.file, MAX_PICTURE_BYTES)
        if place.size == ROW:
            return self._columns.read(place.file, place.column, place.offset)
        if place.size > MAX_PICTURE_BYTES:
            raise OSError(f"{place.file} holds {place.size:,} bytes for one picture")
        handle = os.open(place.file, os.O_RDONLY)
        try:
            return os.pread(handle, place.size, place.offset)
        finally:
            os.close(handle)
