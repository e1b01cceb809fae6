"""Tables of pictures and captions: CSV, TSV, JSON lines, and Parquet, which may hold the pictures themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.suggestions import not_one_of
from training.config import Columns
from training.data.entry import ROW, Entry, Place, Told
from training.data.parquet import has_pictures, parquet_names, parquet_rows
from training.data.shards import JPEG_SUFFIXES, ShardError
from training.data.troubles import Troubles

# open_clip's names, those of Hugging Face's image folders and data sets, and what people write.
PICTURE = ("filepath", "file_name", "filename", "image", "image_path", "path", "jpg", "png", "picture")
CAPTIONS = ("title", "caption", "captions", "text", "txt", "sentences")
LABEL = ("label", "class")
LONGEST_FIELD = 1 << 20  # characters of a CSV field


@dataclass(frozen=True, slots=True)
class _Chosen:
    picture: str
    captions: Sequence[str]
    label: str | None


@dataclass(slots=True)
class _Said:
    file: Path  # the picture
    captions: list[str] = field(default_factory=list)
    label: str | None = None


def scan_tables(files: Iterable[Path], columns: Columns, troubles: Troubles) -> Iterator[Entry]:
    """A sample for every picture that is there and of which something is said; rows of the same picture are joined.

    Raises ShardError for a table without the columns that are needed.
    """
    by_path: dict[str, _Said] = {}  # paths are as in the table, so that keys stay when it is moved with its pictures
    for file in files:
        try:
            chosen = _choose(file, _names(file), columns)
            if file.suffix == ".parquet" and has_pictures(file, chosen.picture):
                yield from _rows_with_pictures(file, chosen, troubles)
            else:
                for row in _rows(file, chosen):
                    _join(by_path, file.parent, chosen, row)
        except (OSError, csv.Error) as error:
            troubles.add(str(file), "damaged file", error)
    for path, said in by_path.items():
        told = _told(said.captions, said.label)
        if told is None:
            troubles.add(path, "no readable text")
        elif not said.file.is_file():
            troubles.add(path, "no picture", f"{said.file} is missing")
        else:
            yield Entry(path, Place(said.file), told, opaque=said.file.suffix.lower()[1:] in JPEG_SUFFIXES)


def _rows_with_pictures(file: Path, chosen: _Chosen, troubles: Troubles) -> Iterator[Entry]:
    for number, row in enumerate(_rows(file, chosen, pictures=False)):
        told = _told(_captions(row, chosen), _label(row, chosen))
        key = f"{file.name}/{number}"
        if told is None:
            troubles.add(key, "no readable text")
        else:
            yield Entry(key, Place(file, number, size=ROW, column=chosen.picture), told)


def _choose(file: Path, names: Sequence[str], columns: Columns) -> _Chosen:
    for name in (columns.picture, *columns.captions, columns.label):
        if name is not None and name not in names:
            raise ShardError(f"{file} has no such column: {not_one_of(name, names)}")
    picture = columns.picture or next((name for name in PICTURE if name in names), None)
    label = columns.label or next((name for name in LABEL if name in names), None)
    captions = columns.captions or [name for name in CAPTIONS if name in names]
    if picture is None or not (captions or label):
        raise ShardError(
            f"{file}: which columns hold the picture and its caption or label? Say it by "
            f"`columns: {{picture: NAME, captions: [NAME], label: NAME}}`; it has {', '.join(names)}"
        )
    return _Chosen(picture, captions, label)


def _join(by_path: dict[str, _Said], base: Path, chosen: _Chosen, row: dict[str, Any]) -> None:
    path = row.get(chosen.picture)
    if isinstance(path, str) and path:
        said = by_path.setdefault(path, _Said(base / path))
        said.captions += _captions(row, chosen)
        said.label = said.label or _label(row, chosen)


def _captions(row: dict[str, Any], chosen: _Chosen) -> list[str]:
    values = [row.get(name) for name in chosen.captions]
    flat = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return [text for text in flat if isinstance(text, str)]


def _label(row: dict[str, Any], chosen: _Chosen) -> str | None:
    label = row.get(chosen.label) if chosen.label else None
    return label.strip() or None if isinstance(label, str) else None


def _told(captions: list[str], label: str | None) -> Told | None:
    try:
        told = Told(captions=list(dict.fromkeys(captions)), label=label)
    except ValidationError:
        return None
    return told if told.says_something() else None


def _names(file: Path) -> list[str]:
    match file.suffix:
        case ".parquet":
            return parquet_names(file)
        case ".jsonl":
            with file.open("rb") as lines:
                return sorted({name for _, line in zip(range(100), lines, strict=False) for name in _object(line)})
        case _:
            with _opened(file) as text:
                return next(csv.reader(text, delimiter=_delimiter(file)), [])


def _rows(file: Path, chosen: _Chosen, pictures: bool = True) -> Iterator[dict[str, Any]]:
    match file.suffix:
        case ".parquet":
            names = [*chosen.captions, *([chosen.label] if chosen.label else []), *([chosen.picture] * pictures)]
            yield from parquet_rows(file, names)
        case ".jsonl":
            with file.open("rb") as lines:
                yield from map(_object, lines)
        case _:
            csv.field_size_limit(LONGEST_FIELD)
            with _opened(file) as text:
                yield from csv.DictReader(text, delimiter=_delimiter(file))


def _object(line: bytes) -> dict[str, Any]:
    """Empty for a line that is no JSON object: a row without a picture."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _opened(file: Path) -> Any:
    return file.open(encoding="utf-8-sig", errors="replace", newline="")


def _delimiter(file: Path) -> str:
    """By the first line: open_clip's files are separated by tabs whatever they are called."""
    with _opened(file) as text:
        return "\t" if "\t" in text.readline() else ","
