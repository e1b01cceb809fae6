"""Rows of a file cut into parts, each with what is needed to begin there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from service.bulk.sources.keys import KeyRegister
from service.bulk.sources.part import Part, SourceOptions


class Place(NamedTuple):
    """Where a row begins, in the words of `Part`; `key` is None where it is the number of the row."""

    first: int
    offset: int
    group: int = 0
    key: str | None = None


def cut(file: Part, places: Iterator[Place], options: SourceOptions, keys: KeyRegister) -> Iterator[Part]:
    """Parts of `file`, which says what all of them share, with the items whose key is in `keys` already."""
    while found := list(islice(places, options.part_rows)):
        repeated = tuple(
            (row, number)
            for row, place in enumerate(found)
            if (key := _key(file, place, keys)) is not None and (number := keys.number(key))
        )
        start = found[0]
        yield replace(
            file, rows=len(found), first=start.first, offset=start.offset, group=start.group, repeated=repeated
        )


def _key(file: Part, place: Place, keys: KeyRegister) -> str | None:
    """A number of a row is one of a kind, unless other rows of its file have keys."""
    if place.key is None and file.key_column:
        keys.missing += 1
        return f"{file.name}#{place.first}"
    return place.key
