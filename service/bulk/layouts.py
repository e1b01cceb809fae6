"""How a part is written: Parquet, NumPy's files with their keys, or the folders of clip-retrieval.

Each file is written beside its place, flushed and renamed. Where a part is several files, the last of them says that it
is done: a part whose first file is there alone is written again. A part takes the place of another after that file of
the other has been removed, so that files of the two are never taken for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as arrow
from numpy.typing import NDArray
from pyarrow import parquet

from model.files import remove_file, write_atomically
from service.bulk.job import JobRequest, Planned

METADATA = b"sightword"  # of a Parquet file
KEYS_SUFFIX = ".keys.json"  # beside NumPy's file, which has no place for them


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A part: keys, sources, errors and vectors [rows, dimensions], those of failed items not finite.

    `texts` are what was embedded, where the layout has a place for them.
    """

    keys: Sequence[str]
    sources: Sequence[str]
    errors: Sequence[str | None]
    vectors: NDArray[Any]
    texts: Sequence[str] | None = None

    def good(self) -> NDArray[np.int64]:
        """Which of them have a vector."""
        return np.array([row for row, error in enumerate(self.errors) if error is None], np.int64)

    def completed_by(self, earlier: Rows) -> Rows:
        """The same, where an item that failed and has a vector in `earlier` has that one."""
        places = {key: place for place, key in enumerate(earlier.keys)}
        sources, errors, vectors = list(self.sources), list(self.errors), self.vectors.copy()
        texts = None if self.texts is None else list(self.texts)
        for row, key in enumerate(self.keys):
            if errors[row] is not None and (place := places.get(key)) is not None:
                sources[row], errors[row], vectors[row] = earlier.sources[place], None, earlier.vectors[place]
                if texts is not None and earlier.texts is not None:
                    texts[row] = earlier.texts[place]
        return Rows(self.keys, sources, errors, vectors, texts)


class Layout(Protocol):
    """`about` is the model: its id and its digest."""

    def is_done(self, number: int) -> bool:
        """Whether all of the part is there."""

    def write(self, number: int, rows: Rows, about: dict[str, str], before: Callable[[], None]) -> None:
        """Write all of it, and call `before` when only renaming is left to do. Raises WriteError."""

    def read(self, number: int) -> Rows:
        """What has a vector in a part that is there."""

    def remove(self, number: int) -> None:
        """Have a part not be done any more."""


class ParquetLayout:
    """`part-00000.parquet` with a row for each item; of one that failed, the vector is null."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self, number: int) -> bool:
        """As Layout."""
        return self._file(number).exists()

    def write(self, number: int, rows: Rows, about: dict[str, str], before: Callable[[], None]) -> None:
        """As Layout."""
        failed = np.array([error is not None for error in rows.errors], np.bool_)
        numbers = np.where(failed[:, None], 0, rows.vectors).astype(rows.vectors.dtype, copy=False)
        vector = arrow.FixedSizeListArray.from_arrays(
            arrow.array(numbers.reshape(-1)), rows.vectors.shape[1], mask=arrow.array(failed)
        )
        table = arrow.table(
            {
                "key": arrow.array(rows.keys, arrow.string()),
                "source": arrow.array(rows.sources, arrow.string()),
                "vector": vector,
                "error": arrow.array(rows.errors, arrow.string()),
            }
        )
        with write_atomically(self._file(number), concurrent=True) as draft:
            _write_parquet(draft, table, about)
            before()

    def read(self, number: int) -> Rows:
        """As Layout."""
        table = parquet.read_table(self._file(number))
        table = table.filter(table["vector"].is_valid())
        vectors = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return _kept(table, vectors.reshape(len(table), table.schema.field("vector").type.list_size))

    def remove(self, number: int) -> None:
        """As Layout."""
        remove_file(self._file(number))

    def _file(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"


class NpyLayout:
    """`part-00000.npy` with a row for each item that did not fail, and their keys in a file beside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self, number: int) -> bool:
        """As Layout."""
        return self._keys(number).exists()

    def write(self, number: int, rows: Rows, about: dict[str, str], before: Callable[[], None]) -> None:
        """As Layout."""
        good = rows.good()
        keys = {**about, "keys": [rows.keys[row] for row in good], "sources": [rows.sources[row] for row in good]}
        with write_atomically(self._keys(number), concurrent=True) as last:
            last.write_bytes(orjson.dumps(keys))
            with write_atomically(self._vectors(number), concurrent=True) as draft:
                _write_npy(draft, rows.vectors[good])
                before()

    def read(self, number: int) -> Rows:
        """As Layout."""
        found = orjson.loads(self._keys(number).read_bytes())
        keys, sources = found["keys"], found["sources"]
        return Rows(keys, sources, [None] * len(keys), np.load(self._vectors(number), allow_pickle=False))

    def remove(self, number: int) -> None:
        """As Layout."""
        remove_file(self._keys(number))

    def _keys(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.npy{KEYS_SUFFIX}"

    def _vectors(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.npy"


class ClipRetrievalLayout:
    """`img_emb/img_emb_0.npy` or `text_emb/text_emb_0.npy`, and `metadata/metadata_0.parquet` with the same rows.

    Rows of items that failed are left out, as there; numbers have as many digits as the last one has, as there.
    """

    def __init__(self, folder: Path, kind: str, parts: int) -> None:
        self._folder, self._kind, self._digits = folder, kind, len(str(max(parts, 1)))
        self._prefix = "img_emb" if kind == "image" else "text_emb"

    def is_done(self, number: int) -> bool:
        """As Layout."""
        return self._metadata(number).exists()

    def write(self, number: int, rows: Rows, about: dict[str, str], before: Callable[[], None]) -> None:
        """As Layout."""
        good = rows.good()
        vectors, metadata = self._vectors(number), self._metadata(number)
        for file in (vectors, metadata):
            file.parent.mkdir(exist_ok=True)
        named = {"image_path": rows.sources} if rows.texts is None else {"caption": rows.texts}
        columns = {**named, "key": rows.keys, "source": rows.sources}
        table = arrow.table(
            {name: arrow.array([values[row] for row in good], arrow.string()) for name, values in columns.items()}
        )
        with write_atomically(metadata, concurrent=True) as last:
            _write_parquet(last, table, about)
            with write_atomically(vectors, concurrent=True) as draft:
                _write_npy(draft, rows.vectors[good])
                before()

    def read(self, number: int) -> Rows:
        """As Layout."""
        return _kept(parquet.read_table(self._metadata(number)), np.load(self._vectors(number), allow_pickle=False))

    def remove(self, number: int) -> None:
        """As Layout."""
        remove_file(self._metadata(number))

    def _metadata(self, number: int) -> Path:
        return self._folder / "metadata" / f"metadata_{number:0{self._digits}}.parquet"

    def _vectors(self, number: int) -> Path:
        return self._folder / self._prefix / f"{self._prefix}_{number:0{self._digits}}.npy"


def open_layout(request: JobRequest, planned: Planned) -> Layout:
    """The one that is asked for."""
    if request.layout == "npy":
        return NpyLayout(request.folder)
    if request.layout == "clip-retrieval":
        return ClipRetrievalLayout(request.folder, planned.kind, planned.parts)
    return ParquetLayout(request.folder)


def _kept(table: Any, vectors: NDArray[Any]) -> Rows:
    """Rows that all have a vector, of a table with their names."""
    keys, sources = table["key"].to_pylist(), table["source"].to_pylist()
    texts = table["caption"].to_pylist() if "caption" in table.column_names else None
    return Rows(keys, sources, [None] * len(keys), vectors, texts)


def _write_parquet(draft: Path, table: Any, about: dict[str, str]) -> None:
    # Vectors have next to nothing that could be compressed, and none that is the same.
    packed = {name: "NONE" if name == "vector" else "ZSTD" for name in table.column_names}
    if "vector" in packed:
        packed["vector.list.element"] = packed.pop("vector")
    table = table.replace_schema_metadata({METADATA: orjson.dumps(about)})
    parquet.write_table(table, draft, compression=packed, use_dictionary=False)


def _write_npy(draft: Path, vectors: NDArray[Any]) -> None:
    with draft.open("wb") as target:
        np.save(target, vectors, allow_pickle=False)
