"""Tables of pictures and captions: CSV, TSV, JSON lines, and Parquet, which may hold the pictures themselves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.data.column_names import normalized
from model.data.delimited import DelimitedFile, Dialect
from model.data.files import (
    IMAGE_SUFFIXES,
    JSON_LINES,
    OPAQUE_SUFFIXES,
    PARQUET,
    TABLE_SUFFIXES,
    TEXT_TABLES,
    stat_or_none,
    suffix_of,
)
from model.data.parquet import has_image_bytes, parquet_names, parquet_rows, rows_without_image
from model.data.skipped_samples import SkippedSamples
from model.data.text_files import AnnotationError, check_undamaged, decode_text, json_type
from model.data.text_lines import JsonLinesFile, Row
from training.config import Source
from training.data.annotation import MAX_NAME, parse_texts
from training.data.columns import ColumnMapping, choose_columns, count_known
from training.data.sample import PARQUET_ROW, Annotation, SampleLocation, SampleRecord
from training.data.shards import ShardError

MAX_LOST_SHARE = 0.01  # share of a table's rows
UNREADABLE_ROW = "unreadable row"
CAPTIONS_OF = "captions of "  # and the column


@dataclass(slots=True)
class _TableSample:
    """The texts of an image, from all rows that name it."""

    key: str
    file: Path  # the image
    captions: dict[str, str] = field(default_factory=dict)  # with the column of each
    tags: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # label, coarse, description


def scan_tables(
    files: Iterable[Path], source: Source, skipped: SkippedSamples, caption_names: Sequence[str] = ()
) -> Iterator[SampleRecord]:
    """A record for every image that exists and has a text; rows of the same image are joined.

    Raises ShardError for a table without the columns that are needed, or of which more than MOST_LOST cannot be read.
    """
    listed = list(files)
    by_path: dict[str, _TableSample] = {}
    for file in listed:
        try:
            if suffix_of(file.name) in PARQUET:
                columns = choose_columns(file, parquet_names(file), source.columns, caption_names)
                skipped.note(f"{file}: {columns}")
                if has_image_bytes(file, columns.image):
                    yield from _rows_with_images(file, columns, skipped)
                    continue
                rows: Iterable[Row] = (Row(n, cells) for n, cells in enumerate(parquet_rows(file, columns.names), 1))
            else:
                columns, rows = _text_table(file, source, skipped, caption_names)
            for row, texts in _readable_rows(file, rows, columns, skipped):
                path = row.cells.get(columns.image)
                if isinstance(path, str) and path.strip():
                    _add_row(by_path, listed[0].parent, file, path, texts)
                elif any(texts.values()):
                    skipped.add(f"{file}, line {row.line}", "no picture", f"`{columns.image}` is empty")
        except OSError as error:
            skipped.add(str(file), "damaged file", error)
    for sample in by_path.values():
        file = _find_with_suffix(sample.file, skipped)
        annotation = _to_annotation(sample)
        if annotation is None:
            skipped.add(sample.key, "no readable text")
        elif missing := _why_missing(file):
            skipped.add(sample.key, "no picture", missing)
        else:
            yield SampleRecord(sample.key, SampleLocation(file), annotation, suffix_of(file.name) in OPAQUE_SUFFIXES)


def _text_table(
    file: Path, source: Source, skipped: SkippedSamples, caption_names: Sequence[str]
) -> tuple[ColumnMapping, Iterator[Row]]:
    suffix = suffix_of(file.name)
    if suffix in JSON_LINES:
        lines = JsonLinesFile(file, source.encoding)
        columns = choose_columns(file, lines.names, source.columns, caption_names)
        skipped.note(f"{file}: {columns}")
        return columns, lines.rows()
    if suffix not in TEXT_TABLES:
        raise ShardError(
            f"{file} is no table that is read: {', '.join(f'.{each}' for each in TABLE_SUFFIXES)} are. {_hint(suffix)}"
        )
    dialect = Dialect(source.encoding, source.delimiter, source.quoting)
    table = DelimitedFile(file, dialect, count_known)
    columns = choose_columns(file, table.names, source.columns, caption_names)
    skipped.note(f"{file}: {table.dialect()}; {columns}")
    return columns, table.rows(columns.image)


def _hint(suffix: str) -> str:
    if suffix == "json":
        return 'Write a JSON file (COCO\'s annotations) as JSON lines: {"file_name": "a.jpg", "caption": "..."} each'
    return "Save a sheet as CSV in UTF-8; decompress what is compressed"


def _readable_rows(
    file: Path, rows: Iterable[Row], columns: ColumnMapping, skipped: SkippedSamples
) -> Iterator[tuple[Row, dict[str, list[str]]]]:
    """The rows that can be read, with their texts by kind. Raises ShardError at the end if too many could not."""
    total, lost, literal = 0, 0, 0
    first = ""
    for row in rows:
        total, literal = total + 1, literal + row.literal
        try:
            if row.problem:
                raise AnnotationError(UNREADABLE_ROW, row.problem)
            texts = _row_texts(row.cells, columns)
        except AnnotationError as error:
            lost += 1
            first = first or f"line {row.line}: {error}"
            skipped.add(f"{file}, line {row.line}", error.reason, error)
            continue
        yield row, texts
    if literal:
        skipped.note(f"{file}: of {literal:,} rows the quotation marks are kept as they stand, since they do not close")
    if lost > MAX_LOST_SHARE * total:
        raise ShardError(
            f"{file}: {lost:,} of {total:,} rows cannot be read, the first is {first}. Mend them, or say how the table "
            "is written: `delimiter`, `quoting` and `encoding` beside `table`"
        )


def _row_texts(row: dict[str, Any], columns: ColumnMapping) -> dict[str, list[str]]:
    """Texts by what they are: captions by column, tags, label, coarse, description. Raises AnnotationError."""
    texts = {f"{CAPTIONS_OF}{name}": parse_texts(name, row.get(name)) for name in columns.captions}
    for kind, name in columns.others.items():
        value = row.get(name)
        if kind == "tags" and isinstance(value, str):
            value = value.split(",")
        texts[kind] = parse_texts(name, value)
    path = row.get(columns.image, "")
    if path is not None and not isinstance(path, str | bytes | dict):
        raise AnnotationError(UNREADABLE_ROW, f"`{columns.image}` holds {json_type(path)}, not a path")
    for text in (*chain.from_iterable(texts.values()), path):
        if isinstance(text, str):
            _check_text(text)
    return texts


def _check_text(text: str) -> None:
    try:
        decode_text(text.encode("utf-8", "surrogateescape"))  # the bytes of the file, where they were no UTF-8
    except UnicodeEncodeError:
        check_undamaged(text)


def _rows_with_images(file: Path, columns: ColumnMapping, skipped: SkippedSamples) -> Iterator[SampleRecord]:
    without = rows_without_image(file, columns.image)
    rows = (Row(number, cells) for number, cells in enumerate(parquet_rows(file, columns.texts)))
    for row, texts in _readable_rows(file, rows, columns, skipped):
        key = f"{file.name}/{row.line}"
        annotation = _to_annotation(_merge(_TableSample(key, file), texts))
        if annotation is None:
            skipped.add(key, "no readable text")
        elif row.line in without:
            skipped.add(key, "no picture", f"`{columns.image}` holds nothing")
        else:
            yield SampleRecord(key, SampleLocation(file, row.line, size=PARQUET_ROW, column=columns.image), annotation)


def _add_row(
    by_path: dict[str, _TableSample], first: Path, table: Path, path: str, texts: dict[str, list[str]]
) -> None:
    file = table.parent / path
    if "\\" in path and stat_or_none(file) is None:  # as Windows writes them
        file = table.parent / path.replace("\\", "/")
    # Keys are as in the table, so that they stay when it is moved with its pictures.
    key = path if table.parent == first else f"{os.path.relpath(table.parent, first)}/{path}"
    _merge(by_path.setdefault(str(file), _TableSample(key, file)), texts)


def _merge(sample: _TableSample, texts: dict[str, list[str]]) -> _TableSample:
    for kind, found in texts.items():
        if kind.startswith(CAPTIONS_OF):
            for text in found:
                sample.captions.setdefault(text, normalized(kind.removeprefix(CAPTIONS_OF))[:MAX_NAME])
    sample.tags += texts.get("tags", [])
    for kind in ("label", "coarse", "description"):
        if texts.get(kind):
            sample.texts.setdefault(kind, texts[kind][0])
    return sample


def _to_annotation(sample: _TableSample) -> Annotation | None:
    captions, fields = list(sample.captions), list(sample.captions.values())
    fields = [] if set(fields) <= {"captions"} else fields
    tags = list(dict.fromkeys(sample.tags))
    given: dict[str, Any] = {"captions": captions, "caption_fields": fields, "tags": tags, **sample.texts}
    try:
        annotation = Annotation(**given)
    except ValidationError:
        return None
    if not annotation.has_text() and annotation.description:
        annotation = Annotation(captions=[annotation.description], caption_fields=["description"])
    return annotation if annotation.has_text() else None


def _find_with_suffix(file: Path, skipped: SkippedSamples) -> Path:
    """The file of an image that a table names without its suffix, as Kaggle's do."""
    if suffix_of(file.name) in IMAGE_SUFFIXES or not file.name or stat_or_none(file) is not None:
        return file
    for suffix in IMAGE_SUFFIXES:
        named = file.with_name(f"{file.name}.{suffix}")
        if stat_or_none(named) is not None:
            skipped.note(f"pictures are named without their suffix: .{suffix} is added")
            return named
    return file


def _why_missing(file: Path) -> str:
    """Why there is no image at a path, empty if there is one."""
    if "://" in str(file) or ":/" in str(file):
        return f"{file.name} is named by an address: download it, by img2dataset for example"
    state = stat_or_none(file)
    if state is None:
        return f"{file} is missing"
    if not stat.S_ISREG(state.st_mode):
        return f"{file} is no regular file"
    return "" if state.st_size else f"{file} is empty"
