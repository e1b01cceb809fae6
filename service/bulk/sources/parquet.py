"""Parquet of pictures, of paths or URLs of some, or of texts, read by row groups in batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.data.files import check_regular
from model.data.parquet import check_groups, column_leaves
from service.bulk.sources.columns import choose_columns, refuse_urls
from service.bulk.sources.keys import KeyRegister
from service.bulk.sources.part import Item, Kind, Part, SourceError, SourceOptions
from service.bulk.sources.places import Place, cut
from service.bulk.sources.rows import RowValue, key_of, to_items

ROWS, PICTURES = 1000, 16  # in a batch
BUFFER = 1 << 20  # bytes that are read at once of a column
PAUSED = 2  # files that are open between two parts
# Where a part ended, so that the next one need not pass over the rows before it: pandas writes row groups of a million.
_paused: dict[tuple[str | int, ...], Iterator[dict[str, Any]]] = {}
FAILURES = (pa.ArrowException, OSError, UnicodeDecodeError)


def recognize_parquet(table: Part, options: SourceOptions, kind: Kind | None) -> tuple[Part, str]:
    """The table with its kind and columns, and these in words. Raises SourceError, and what FAILURES lists."""
    with _opened(table, []) as content:
        schema = content.schema_arrow
        binary = [field.name for field in schema if _holds_bytes(field.type)]
        columns = choose_columns(table.name, schema.names, options, kind, binary)
        leaves = [leaf for name in (columns.value, columns.key) for leaf in column_leaves(content.metadata, name)]
        if schema.names.count(columns.value) > 1:
            raise SourceError(f"{table.name} has several columns called {columns.value!r}: give each a name of its own")
        check_groups(content.metadata, leaves)
    first = next(_values(table, 0, [columns.value]), {}).get(columns.value)
    refuse_urls(table.name, columns.kind, first, options)
    return replace(table, kind=columns.kind, column=columns.value, key_column=columns.key), columns.note


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def plan_parquet(table: Part, options: SourceOptions, keys: KeyRegister) -> Iterator[Part]:
    """Cuts a table that was recognized into parts, by what its footer says and its column of keys. Raises OSError."""
    yield from cut(table, _places(table), options, keys)


def _places(table: Part) -> Iterator[Place]:
    number = 0
    with _opened(table, []) as content:
        sizes = [content.metadata.row_group(group).num_rows for group in range(content.num_row_groups)]
    found = _values(table, 0, [table.key_column]) if table.key_column else None
    for group, size in enumerate(sizes):
        for row in range(size):
            key = None if found is None else key_of(next(found, {}).get(table.key_column))
            yield Place(number, row, group, key)
            number += 1


def read_parquet(part: Part, options: SourceOptions) -> Iterator[Item]:
    """The rows of a part, of which only those before in the same row group are passed over.

    Rows that are behind damage are items with the reason: their number was planned.
    """
    yield from to_items(_row_values(part), part, options)


def _row_values(part: Part) -> Iterator[RowValue]:
    done, problem = 0, "the file has fewer rows than it says"
    try:
        names = [part.column, *([part.key_column] if part.key_column else [])]
        rows = _paused.pop((part.path, part.mtime_ns, *names, part.first), None)
        rows = rows or _values(part, part.group, names, part.offset)
        for row in islice(rows, part.rows):
            key = key_of(row[part.key_column]) if part.key_column else None
            yield RowValue(part.first + done, key, row[part.column])
            done += 1
        # Row groups of pictures are small, what is open of them is not.
        if done == part.rows and not isinstance(row[part.column], bytes | dict):
            _pause((part.path, part.mtime_ns, *names, part.first + done), rows)
    except FAILURES as error:
        problem = f"the file is damaged: {error}"
    for number in range(part.first + done, part.first + part.rows):
        yield RowValue(number, None, None, problem)


def _pause(place: tuple[str | int, ...], rows: Iterator[dict[str, Any]]) -> None:
    _paused[place] = rows
    while len(_paused) > PAUSED:
        _paused.pop(next(iter(_paused)), None)


def _values(table: Part, group: int, names: list[str], skip: int = 0) -> Iterator[dict[str, Any]]:
    """Rows from a row group on, without the first `skip`. Raises what FAILURES lists."""
    with _opened(table, []) as content:
        leaves = [leaf for name in names for leaf in column_leaves(content.metadata, name)]
        groups = content.num_row_groups
        check_groups(content.metadata, leaves)
        pictures = any(_holds_bytes(content.schema_arrow.field(name).type) for name in names)
        plain = pictures and all(_is_plain(content.metadata.row_group(each), leaves) for each in range(group, groups))
    # Values stay references to a dictionary until they are looked at: a page of kilobytes may repeat a long one often.
    # Pictures that are written one after the other repeat none, and all of a row group would be in that dictionary.
    with _opened(table, [] if plain else leaves) as content:
        size = PICTURES if pictures else ROWS
        for each in range(group, groups):
            for batch in content.iter_batches(size, row_groups=[each], columns=names, use_threads=False):
                columns = [batch.column(name) for name in names]
                for row in range(skip, batch.num_rows):
                    yield {name: column[row].as_py() for name, column in zip(names, columns, strict=True)}
                skip = max(0, skip - batch.num_rows)


def _is_plain(group: pq.RowGroupMetaData, leaves: list[str]) -> bool:
    columns = map(group.column, range(group.num_columns))
    return all("PLAIN" in column.encodings for column in columns if column.path_in_schema in leaves)


def _opened(table: Part, dictionaries: list[str]) -> pq.ParquetFile:
    """Raises OSError for what is no Parquet, or no file: a pipe would be waited for."""
    check_regular(Path(table.path))
    try:
        return pq.ParquetFile(
            Path(table.path), read_dictionary=dictionaries, buffer_size=BUFFER, pre_buffer=False, memory_map=False
        )
    except pa.ArrowException as error:
        raise OSError(str(error)) from error
