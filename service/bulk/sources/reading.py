"""Reads one part."""

from __future__ import annotations

from collections.abc import Iterator

from service.bulk.sources.folders import read_folder
from service.bulk.sources.part import Item, Part, SourceOptions


def read(part: Part, options: SourceOptions) -> Iterator[Item]:
    """Its items, in order, a few of them in memory at a time. Raises SourceError where the file is another by now."""
    yield from read_folder(part, options)
