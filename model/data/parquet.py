"""Parquet files of pictures and captions, among them those that Hugging Face's `datasets` writes."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.data.files import check_regular
from model.data.tar_members import ShardError

BATCH = 1000  # rows
CACHED_GROUPS = 2  # row groups whose pictures are in memory: pictures are read in order, by some threads
MAX_GROUP_BYTES = 4 * 2**30  # of one column in a row group, decompressed
MAX_VALUES = 1000  # in a list, on average over a row group
LONGEST_TEXT = 1 << 20  # bytes of a cell


def parquet_names(file: Path) -> list[str]:
    """Names of the columns. Raises OSError."""
    return list(_schema(file).names)


def has_image_bytes(file: Path, column: str) -> bool:
    """Whether `column` holds the bytes of pictures, alone or as `bytes` beside `path`, and not only paths."""
    kind = _schema(file).field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any((pa.types.is_binary(kind), pa.types.is_large_binary(kind), pa.types.is_struct(kind)))


def parquet_rows(file: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows with the columns `names`; numbers of a class become its name. Raises ShardError and OSError."""
    schema = _schema(file)
    classes = {name: _classes(file, schema, name) for name in names if pa.types.is_integer(schema.field(name).type)}
    try:
        with pq.ParquetFile(file) as content:
            leaves = [leaf for name in names for leaf in column_leaves(content.metadata, name)]
        # Texts stay as references to a dictionary until their lengths are known: a page of kilobytes may repeat one
        # long text a million times.
        with pq.ParquetFile(file, read_dictionary=leaves) as content:
            check_groups(content.metadata, leaves)
            for group in range(content.num_row_groups):  # in which a batch ends: lists across two cannot be read
                for batch in content.iter_batches(BATCH, row_groups=[group], columns=list(names)):
                    _check_lengths(batch)
                    for row in batch.to_pylist():
                        for name, words in classes.items():
                            row[name] = words[row[name]] if row[name] in range(len(words)) else None
                        yield row
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def column_leaves(metadata: pq.FileMetaData, name: str) -> list[str]:
    """Paths of the parts of a column, as in `image.bytes` and `image.path`."""
    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    return [path for path in paths if path == name or path.startswith(f"{name}.")]


def check_groups(metadata: pq.FileMetaData, leaves: Sequence[str]) -> None:
    """Raise OSError for a row group that takes more memory than any in good faith."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema not in leaves:
                continue
            if column.total_uncompressed_size > MAX_GROUP_BYTES or column.num_values > MAX_VALUES * group.num_rows:
                raise OSError(
                    f"row group {number} holds {column.num_values:,} values of {column.path_in_schema} in "
                    f"{column.total_uncompressed_size:,} bytes: write it in smaller row groups"
                )


def _check_lengths(batch: pa.RecordBatch) -> None:
    for column in batch.columns:
        array = column
        while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            array = array.flatten()
        if pa.types.is_dictionary(array.type):
            array = array.dictionary
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_binary(array.type):
            longest = pc.max(pc.binary_length(array)).as_py() or 0
            if longest > LONGEST_TEXT:
                raise OSError(f"a cell has {longest:,} bytes, more than {LONGEST_TEXT:,}")


def rows_without_image(file: Path, column: str) -> frozenset[int]:
    """Numbers of the rows whose picture is not there; only row groups that have such are read. Raises OSError."""
    found: list[int] = []
    try:
        with pq.ParquetFile(file) as content:
            metadata = content.metadata
            leaf = next((leaf for leaf in column_leaves(metadata, column) if leaf in (column, f"{column}.bytes")), None)
        if leaf is None:
            raise ShardError(f"{file}: column {column!r} holds no `bytes` of pictures")
        with pq.ParquetFile(file, read_dictionary=[leaf]) as content:
            check_groups(metadata, [leaf])
            start = 0
            for number in range(metadata.num_row_groups):
                if not _is_full(metadata.row_group(number), leaf):
                    values = content.read_row_group(number, columns=[leaf])[column]
                    values = values.combine_chunks() if pa.types.is_struct(values.type) else values
                    values = pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values
                    found += (start + np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))).tolist()
                start += metadata.row_group(number).num_rows
    except pa.ArrowException as error:
        raise OSError(str(error)) from error
    return frozenset(found)


def _is_full(group: pq.RowGroupMetaData, leaf: str) -> bool:
    """Whether the statistics say that no value is missing."""
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema == leaf:
            statistics = column.statistics
            return statistics is not None and statistics.has_null_count and statistics.null_count == 0
    return False


def _classes(file: Path, schema: pa.Schema, column: str) -> list[str]:
    """The names of a ClassLabel, from what `datasets` notes in the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{file}: column {column!r} holds numbers, and nothing says which words they are") from error


def _schema(file: Path) -> pa.Schema:
    check_regular(file)
    try:
        return pq.read_schema(file)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


class ParquetImages:
    """Reads pictures out of Parquet by row, a whole row group at a time; may be used by many threads."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[Path, int], pa.ChunkedArray] = OrderedDict()
        self._starts: dict[Path, list[int]] = {}
        self._lock = threading.Lock()

    def read(self, file: Path, column: str, row: int) -> bytes:
        """The bytes in `row`, empty if there are none. Raises OSError."""
        try:
            with self._lock:
                starts = self._starts_of(file)
                group = int(np.searchsorted(starts, row, side="right")) - 1
                value = self._group(file, group, column)[row - starts[group]].as_py()
        except pa.ArrowException as error:
            raise OSError(str(error)) from error
        return (value.get("bytes") if isinstance(value, dict) else value) or b""

    def _starts_of(self, file: Path) -> list[int]:
        if file not in self._starts:
            content = pq.read_metadata(file)
            sizes = [content.row_group(i).num_rows for i in range(content.num_row_groups)]
            self._starts[file] = [sum(sizes[:i]) for i in range(len(sizes))]
        return self._starts[file]

    def _group(self, file: Path, group: int, column: str) -> pa.ChunkedArray:
        if (file, group) not in self._groups:
            with pq.ParquetFile(file) as content:
                leaves = [
                    leaf for leaf in column_leaves(content.metadata, column) if leaf in (column, f"{column}.bytes")
                ]
                check_groups(content.metadata, leaves)
            with pq.ParquetFile(file, read_dictionary=leaves) as content:
                self._groups[file, group] = content.read_row_group(group, columns=leaves)[column]
            if len(self._groups) > CACHED_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((file, group))
        return self._groups[file, group]
