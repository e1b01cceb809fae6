"""Tables of pictures and captions: CSV, TSV, JSON lines, and Parquet, which may hold the pictures themselves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.config import Source
from training.data.annotation import texts_of
from training.data.columns import Chosen, choose, recognised
from training.data.delimited import Delimited
from training.data.entry import ROW, Entry, Place, Told
from training.data.files import OPAQUE_SUFFIXES, PICTURE_SUFFIXES, state_of, suffix_of
from training.data.parquet import has_pictures, parquet_names, parquet_rows, rows_without_picture
from training.data.shards import ShardError
from training.data.text_files import AnnotationError, decode_text, kind_of, undamaged
from training.data.text_lines import JsonLines, Row
from training.data.troubles import Troubles

TEXT_TABLES = ("csv", "tsv", "txt", "tab", "psv")
LINES, PARQUET = ("jsonl", "ndjson"), ("parquet",)
TABLES = (*TEXT_TABLES, *LINES, *PARQUET)
MOST_LOST = 0.01  # share of a table's rows
UNREADABLE_ROW = "unreadable row"


@dataclass(slots=True)
class _Said:
    key: str
    file: Path  # the picture
    captions: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # label, coarse, description


def scan_tables(files: Iterable[Path], source: Source, troubles: Troubles) -> Iterator[Entry]:
    """A sample for every picture that is there and of which something is said; rows of the same picture are joined.

    Raises ShardError for a table without the columns that are needed, or of which more than MOST_LOST cannot be read.
    """
    listed = list(files)
    by_path: dict[str, _Said] = {}
    for file in listed:
        try:
            if suffix_of(file.name) in PARQUET:
                chosen = choose(file, parquet_names(file), source.columns)
                troubles.note(f"{file}: {chosen}")
                if has_pictures(file, chosen.picture):
                    yield from _rows_with_pictures(file, chosen, troubles)
                    continue
                rows: Iterable[Row] = (Row(n, cells) for n, cells in enumerate(parquet_rows(file, chosen.names), 1))
            else:
                chosen, rows = _text_table(file, source, troubles)
            for row, said in _sound(file, rows, chosen, troubles):
                path = row.cells.get(chosen.picture)
                if isinstance(path, str) and path.strip():
                    _join(by_path, listed[0].parent, file, path, said)
                elif any(said.values()):
                    troubles.add(f"{file}, line {row.line}", "no picture", f"`{chosen.picture}` is empty")
        except OSError as error:
            troubles.add(str(file), "damaged file", error)
    for picture in by_path.values():
        file = _with_suffix(picture.file, troubles)
        told = _told(picture)
        if told is None:
            troubles.add(picture.key, "no readable text")
        elif missing := _missing(file):
            troubles.add(picture.key, "no picture", missing)
        else:
            yield Entry(picture.key, Place(file), told, suffix_of(file.name) in OPAQUE_SUFFIXES)


def _text_table(file: Path, source: Source, troubles: Troubles) -> tuple[Chosen, Iterator[Row]]:
    suffix = suffix_of(file.name)
    if suffix in LINES:
        lines = JsonLines(file, source.encoding)
        chosen = choose(file, lines.names, source.columns)
        troubles.note(f"{file}: {chosen}")
        return chosen, lines.rows()
    if suffix not in TEXT_TABLES:
        raise ShardError(
            f"{file} is no table that is read: {', '.join(f'.{each}' for each in TABLES)} are. {_hint(suffix)}"
        )
    table = Delimited(file, source, recognised)
    chosen = choose(file, table.names, source.columns)
    troubles.note(f"{file}: {table.dialect()}; {chosen}")
    return chosen, table.rows(chosen.picture)


def _hint(suffix: str) -> str:
    if suffix == "json":
        return 'Write a JSON file (COCO\'s annotations) as JSON lines: {"file_name": "a.jpg", "caption": "..."} each'
    return "Save a sheet as CSV in UTF-8; decompress what is compressed"


def _sound(
    file: Path, rows: Iterable[Row], chosen: Chosen, troubles: Troubles
) -> Iterator[tuple[Row, dict[str, list[str]]]]:
    """The rows that can be read, and what they say. Raises ShardError at the end if too many could not."""
    total, lost, literal = 0, 0, 0
    first = ""
    for row in rows:
        total, literal = total + 1, literal + row.literal
        try:
            if row.problem:
                raise AnnotationError(UNREADABLE_ROW, row.problem)
            said = _said(row.cells, chosen)
        except AnnotationError as error:
            lost += 1
            first = first or f"line {row.line}: {error}"
            troubles.add(f"{file}, line {row.line}", error.reason, error)
            continue
        yield row, said
    if literal:
        troubles.note(
            f"{file}: of {literal:,} rows the quotation marks are kept as they stand, since they do not close"
        )
    if lost > MOST_LOST * total:
        raise ShardError(
            f"{file}: {lost:,} of {total:,} rows cannot be read, the first is {first}. Mend them, or say how the table "
            "is written: `delimiter`, `quoting` and `encoding` beside `table`"
        )


def _said(row: dict[str, Any], chosen: Chosen) -> dict[str, list[str]]:
    """Texts by what they are: picture, captions, tags, label, coarse, description. Raises AnnotationError."""
    said = {"captions": [text for name in chosen.captions for text in texts_of(name, row.get(name))]}
    for kind, name in chosen.others.items():
        value = row.get(name)
        if kind == "tags" and isinstance(value, str):
            value = value.split(",")
        said[kind] = texts_of(name, value)
    path = row.get(chosen.picture, "")
    if path is not None and not isinstance(path, str | bytes | dict):
        raise AnnotationError(UNREADABLE_ROW, f"`{chosen.picture}` holds {kind_of(path)}, not a path")
    for text in (*(text for texts in said.values() for text in texts), path):
        if isinstance(text, str):
            _check(text)
    return said


def _check(text: str) -> None:
    try:
        decode_text(text.encode("utf-8", "surrogateescape"))  # the bytes of the file, where they were no UTF-8
    except UnicodeEncodeError:
        undamaged(text)


def _rows_with_pictures(file: Path, chosen: Chosen, troubles: Troubles) -> Iterator[Entry]:
    without = rows_without_picture(file, chosen.picture)
    rows = (Row(number, cells) for number, cells in enumerate(parquet_rows(file, chosen.texts)))
    for row, said in _sound(file, rows, chosen, troubles):
        key = f"{file.name}/{row.line}"
        told = _told(_joined(_Said(key, file), said))
        if told is None:
            troubles.add(key, "no readable text")
        elif row.line in without:
            troubles.add(key, "no picture", f"`{chosen.picture}` holds nothing")
        else:
            yield Entry(key, Place(file, row.line, size=ROW, column=chosen.picture), told)


def _join(by_path: dict[str, _Said], first: Path, table: Path, path: str, said: dict[str, list[str]]) -> None:
    file = table.parent / path
    if "\\" in path and state_of(file) is None:  # as Windows writes them
        file = table.parent / path.replace("\\", "/")
    # Keys are as in the table, so that they stay when it is moved with its pictures.
    key = path if table.parent == first else f"{os.path.relpath(table.parent, first)}/{path}"
    _joined(by_path.setdefault(str(file), _Said(key, file)), said)


def _joined(picture: _Said, said: dict[str, list[str]]) -> _Said:
    picture.captions += said["captions"]
    picture.tags += said.get("tags", [])
    for kind in ("label", "coarse", "description"):
        if said.get(kind):
            picture.texts.setdefault(kind, said[kind][0])
    return picture


def _told(said: _Said) -> Told | None:
    captions, tags = (list(dict.fromkeys(texts)) for texts in (said.captions, said.tags))
    try:
        told = Told(captions=captions, tags=tags, **said.texts)
    except ValidationError:
        return None
    if not told.says_something() and told.description:
        told = Told(captions=[told.description])
    return told if told.says_something() else None


def _with_suffix(file: Path, troubles: Troubles) -> Path:
    """The picture that a table names without its suffix, as Kaggle's do."""
    if suffix_of(file.name) in PICTURE_SUFFIXES or not file.name or state_of(file) is not None:
        return file
    for suffix in PICTURE_SUFFIXES:
        named = file.with_name(f"{file.name}.{suffix}")
        if state_of(named) is not None:
            troubles.note(f"pictures are named without their suffix: .{suffix} is added")
            return named
    return file


def _missing(file: Path) -> str:
    """Why there is no picture at a path, empty if there is one."""
    if "://" in str(file) or ":/" in str(file):
        return f"{file.name} is named by an address: download it, by img2dataset for example"
    state = state_of(file)
    if state is None:
        return f"{file} is missing"
    if not stat.S_ISREG(state.st_mode):
        return f"{file} is no regular file"
    return "" if state.st_size else f"{file} is empty"
