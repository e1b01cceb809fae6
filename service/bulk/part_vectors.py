"""The vectors of a finished job, read from its Parquet parts block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.requirements import needs
from service.bulk.job import JobError

BLOCK_ROWS: Final = 8_192
_COLUMNS = ("key", "source", "vector")

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parts:
    """Files in the order of their numbers; `rows` of all, with and without a vector, which has `width` numbers."""

    files: Sequence[Path]
    rows: int
    width: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that follow each other among those that have a vector, from number `first` on."""

    first: int
    vectors: Vectors  # [rows, width], of length 1
    names: Any  # pyarrow.Table of key and source, as long; None where nobody asked


def open_parts(folder: Path) -> Parts:
    """What `folder` holds by the footers of its parts. Raises JobError where that is not one job's Parquet output."""
    with needs("parquet"):
        from pyarrow import parquet

    files = sorted(folder.glob("part-*.parquet"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise JobError(f"{folder} holds no part-*.parquet: near duplicates are looked for in the Parquet output")
    rows, widths = 0, dict[int, Path]()
    for file in files:
        with parquet.ParquetFile(file) as opened:
            rows += opened.metadata.num_rows
            widths.setdefault(_width(opened.schema_arrow, file), file)
    if len(widths) > 1:
        (one, first), (other, second) = list(widths.items())[:2]
        raise JobError(f"vectors of two kinds: {first} has {one} numbers in each, {second} has {other}")
    return Parts(files, rows, next(iter(widths)))


def read_blocks(parts: Parts, *, names: bool = False) -> Iterator[Block]:
    """The rows that have a vector, in order, at most BLOCK_ROWS at a time.

    A row without one, which is that of an item that failed, is left out, and so is a vector that has no direction: of
    zeros, or not finite.
    """
    with needs("parquet"):
        from pyarrow import Table, parquet

    first = 0
    for file in parts.files:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BLOCK_ROWS, columns=list(_COLUMNS if names else _COLUMNS[2:])):
                present = batch.filter(batch.column("vector").is_valid())
                numbers = present.column("vector").flatten().to_numpy(zero_copy_only=False)
                vectors, usable = _normalized(numbers.reshape(-1, parts.width).astype(np.float32))
                named = Table.from_batches([present.select(_COLUMNS[:2]).filter(usable)]) if names else None
                if len(vectors):
                    yield Block(first, vectors, named)
                first += len(vectors)


def _normalized(vectors: Vectors) -> tuple[Vectors, NDArray[np.bool_]]:
    """Those that have a direction, at length 1, and which they are: float16 and fewer dimensions change the length."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
    return np.ascontiguousarray(vectors[usable] / lengths[usable]), usable


def _width(schema: Any, file: Path) -> int:
    missing = [name for name in _COLUMNS if name not in schema.names]
    if missing:
        raise JobError(f"{file} has no column {', '.join(missing)}: it is not of this command")
    kind = schema.field("vector").type
    width = getattr(kind, "list_size", None)
    if not isinstance(width, int) or width < 1 or str(kind.value_type) not in ("float", "halffloat"):
        raise JobError(f"the column vector of {file} is {kind}, not a fixed-size list of float16 or float32")
    return width
