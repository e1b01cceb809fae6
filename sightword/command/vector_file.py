"""Files of vectors with their keys and the model that they are of: Parquet, NumPy or JSON lines, by the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from model.files import write_atomically
from sightword.command.status import UsageError
from sightword.errors import MissingDependencyError
from sightword.results import Vectors

METADATA = b"sightword"  # of a Parquet file
KEYS_SUFFIX = ".keys.json"  # beside NumPy's file, which has no place for them


class VectorFileError(UsageError):
    """Not a file of vectors; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorFile:
    """Vectors [keys, dimensions] of unit length. Those of two models (by `digest`) must not be compared.

    Several of each, which a mixture model mixes for each text, are [keys, tokens, dimensions].
    """

    keys: Sequence[str]
    vectors: Vectors
    model: str
    digest: str


def check_name(file: Path) -> None:
    """Raise VectorFileError for a name whose end is of no format, MissingDependencyError if the format needs more."""
    if _format(file) is _PARQUET:
        _pyarrow()
    if not file.absolute().parent.is_dir():
        raise VectorFileError(f"There is no folder {file.parent} for {file.name}.")


def write_vectors(file: Path, content: VectorFile) -> None:
    """Put it in the place of what the file held. Raises OSError."""
    _, write = _format(file)
    with write_atomically(file) as draft:
        write(draft, content)
    if write is _write_npy:
        keys = {"model": content.model, "digest": content.digest, "keys": list(content.keys)}
        with write_atomically(file.with_name(file.name + KEYS_SUFFIX)) as draft:
            draft.write_bytes(orjson.dumps(keys))


def read_vectors(file: Path) -> VectorFile:
    """One vector for each key. Raises VectorFileError, OSError, MissingDependencyError."""
    read, _ = _format(file)
    if not file.is_file():
        raise VectorFileError(f"There is no file {file}.")
    try:
        found = read(file)
    except VectorFileError:
        raise
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise VectorFileError(f"{file} holds no vectors of `sightword embed`: {error}") from error
    if found.vectors.ndim == 3:
        raise VectorFileError(
            f"{file} holds several vectors for each key, which {found.model} mixes for each text: rank the pictures "
            "themselves with `sightword rank`."
        )
    if found.vectors.ndim != 2 or len(found.vectors) != len(found.keys) or not len(found.keys):
        raise VectorFileError(f"{file} holds {len(found.keys)} keys and an array {list(found.vectors.shape)}.")
    return found


def _read_jsonl(file: Path) -> VectorFile:
    keys, rows, model = [], [], None
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            entry = orjson.loads(line)
            if "error" in entry:
                continue
            if model not in (None, (entry["model"], entry["digest"])):
                raise VectorFileError(f"{file}, line {number}: vectors of another model than those before.")
            model = (entry["model"], entry["digest"])
            keys.append(str(entry["key"]))
            rows.append(np.array(entry["embedding"], np.float32))
    if model is None:
        raise VectorFileError(f"{file} holds no vectors.")
    return VectorFile(keys, np.stack(rows), *model)


def _write_jsonl(file: Path, content: VectorFile) -> None:
    with file.open("wb") as lines:
        for key, vector in zip(content.keys, content.vectors, strict=True):
            lines.write(json_line(key, vector, content.model, content.digest))


def json_line(key: str, vector: Vectors, model: str, digest: str) -> bytes:
    """One item, with a line break."""
    entry = {"key": key, "embedding": vector, "model": model, "digest": digest}
    return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _read_npy(file: Path) -> VectorFile:
    beside = file.with_name(file.name + KEYS_SUFFIX)
    if not beside.is_file():
        raise VectorFileError(f"{beside} is missing, which has the keys of {file.name}.")
    keys = json.loads(beside.read_bytes())
    vectors = np.load(file, allow_pickle=False)
    return VectorFile(keys["keys"], np.asarray(vectors, np.float32), keys["model"], keys["digest"])


def _write_npy(file: Path, content: VectorFile) -> None:
    with file.open("wb") as target:
        np.save(target, content.vectors, allow_pickle=False)


def _read_parquet(file: Path) -> VectorFile:
    arrow, parquet = _pyarrow()
    name = "embedding" if "embedding" in parquet.read_schema(file).names else "vector"  # of a part of a bulk job
    table = parquet.read_table(file, columns=["key", name]).drop_null()  # there, what failed has none
    about = json.loads((table.schema.metadata or {}).get(METADATA, b"null"))
    if about is None:
        raise VectorFileError(
            f"{file} was not written by `sightword embed` or `bulk`: it does not say which model made it."
        )
    column = table[name].combine_chunks()
    inner = column.flatten()
    several = arrow.types.is_fixed_size_list(inner.type)
    numbers = np.asarray(inner.flatten() if several else inner, np.float32)
    vectors = numbers.reshape(len(column), -1, inner.type.list_size) if several else numbers.reshape(len(column), -1)
    return VectorFile(table["key"].to_pylist(), vectors, about["model"], about["digest"])


def _write_parquet(file: Path, content: VectorFile) -> None:
    """`key` a string, `embedding` a list of so many float32: what DuckDB, Polars, LanceDB and others read as it is."""
    arrow, parquet = _pyarrow()
    embedding = arrow.array(np.ascontiguousarray(content.vectors).reshape(-1))
    for length in content.vectors.shape[:0:-1]:
        embedding = arrow.FixedSizeListArray.from_arrays(embedding, length)
    table = arrow.table({"key": arrow.array(list(content.keys), arrow.string()), "embedding": embedding})
    about = json.dumps({"model": content.model, "digest": content.digest})
    parquet.write_table(table.replace_schema_metadata({METADATA: about}), file)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        from model.requirements import pip_install

        raise MissingDependencyError(
            f"pyarrow is not installed, and Parquet needs it: {pip_install('parquet')}. Without, write .npy or .jsonl."
        ) from None
    return pyarrow, parquet


Format = tuple[Callable[[Path], VectorFile], Callable[[Path, VectorFile], None]]
_PARQUET: Format = (_read_parquet, _write_parquet)
_NPY: Format = (_read_npy, _write_npy)
_JSONL: Format = (_read_jsonl, _write_jsonl)
_FORMATS: dict[str, Format] = {".parquet": _PARQUET, ".npy": _NPY, ".jsonl": _JSONL}


def _format(file: Path) -> Format:
    try:
        return _FORMATS[file.suffix.lower()]
    except KeyError:
        raise VectorFileError(f"{file} ends in none of {', '.join(_FORMATS)}.") from None
