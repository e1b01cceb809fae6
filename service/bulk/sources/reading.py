"""Reads one part, if its file is still the one that was planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from service.bulk.sources.cells import UNREADABLE
from service.bulk.sources.folders import read_folder
from service.bulk.sources.keys import numbered
from service.bulk.sources.part import Form, Item, Part, SourceError, SourceOptions
from service.bulk.sources.shards import read_shard
from service.bulk.sources.tables import read_table
from service.inference import fetch


def _read_parquet(part: Part, options: SourceOptions) -> Iterator[Item]:
    from service.bulk.sources.parquet import read_parquet  # the rest needs no pyarrow

    return read_parquet(part, options)


READERS: Mapping[Form, Callable[[Part, SourceOptions], Iterator[Item]]] = {
    "folder": read_folder,
    "shard": read_shard,
    "parquet": _read_parquet,
    "delimited": read_table,
    "json_lines": read_table,
    "lines": read_table,
}


def read(part: Part, options: SourceOptions) -> Iterator[Item]:
    """Its items, in order, a few of them in memory at a time. Raises SourceError where its file is another by now.

    Files of a folder are read as they are: one that has gone is an item with that reason.
    """
    if part.form != "folder":
        _check_unchanged(part)
    numbers = dict(part.repeated)
    for row, item in enumerate(READERS[part.form](part, options)):
        yield replace(item, key=numbered(item.key, numbers[row])) if row in numbers else item


def may_pass(error: str) -> bool:
    """Whether an item with this error may be read another time: its file was not readable, its host not to be reached.

    Of the texts of errors, as `_errors.jsonl` has nothing else.
    """
    return error.startswith(UNREADABLE) or fetch.may_pass(error)


def _check_unchanged(part: Part) -> None:
    try:
        state = Path(part.path).stat()
    except OSError as error:
        raise SourceError(f"{part.path}, which was there when the job was planned: {error.strerror}") from None
    if (state.st_size, state.st_mtime_ns) != (part.size, part.mtime_ns):
        raise SourceError(
            f"{part.path} has changed since the job was planned: put it back as it was, or begin another job, with "
            "another --output"
        )
