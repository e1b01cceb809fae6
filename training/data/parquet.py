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
import pyarrow.parquet as pq

from training.data.shards import ShardError

BATCH = 1000  # rows
KEPT_GROUPS = 2  # row groups whose pictures are in memory: pictures are read in order, by some threads


def parquet_names(file: Path) -> list[str]:
    """Names of the columns. Raises ShardError."""
    return list(_schema(file).names)


def has_pictures(file: Path, column: str) -> bool:
    """Whether `column` holds the bytes of pictures, alone or as `bytes` beside `path`, and not only paths."""
    kind = _schema(file).field(column).type
    return any((pa.types.is_binary(kind), pa.types.is_large_binary(kind), pa.types.is_struct(kind)))


def parquet_rows(file: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows with the columns `names`; numbers of a class become its name. Raises ShardError and OSError."""
    schema = _schema(file)
    classes = {name: _classes(file, schema, name) for name in names if pa.types.is_integer(schema.field(name).type)}
    try:
        with pq.ParquetFile(file) as content:
            for batch in content.iter_batches(BATCH, columns=list(names)):
                for row in batch.to_pylist():
                    for name, words in classes.items():
                        row[name] = words[row[name]] if row[name] in range(len(words)) else None
                    yield row
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def _classes(file: Path, schema: pa.Schema, column: str) -> list[str]:
    """The names of a ClassLabel, from what `datasets` notes in the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{file}: column {column!r} holds numbers, and nothing says which words they are") from error


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


class PictureColumns:
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
                self._groups[file, group] = content.read_row_group(group, columns=[column])[column]
            if len(self._groups) > KEPT_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((file, group))
        return self._groups[file, group]
