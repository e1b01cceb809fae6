"""CSV, TSV and JSON lines of texts, paths or URLs, and files of one text, path or URL a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from model.data.delimited import DelimitedFile, Dialect, names_picture
from model.data.skipped_samples import SkippedSamples
from model.data.text_lines import TOO_LONG, JsonLinesFile, LineReader, Row
from service.bulk.sources.cells import is_url
from service.bulk.sources.columns import choose_columns, known, refuse_urls
from service.bulk.sources.keys import KeyRegister
from service.bulk.sources.part import Item, Kind, Part, SourceError, SourceOptions
from service.bulk.sources.places import Place, cut
from service.bulk.sources.rows import RowValue, key_of, to_items

LINE = "line"


def recognize_table(table: Part, options: SourceOptions, kind: Kind | None) -> tuple[Part, str]:
    """The table with its kind and columns, and these in words. Raises SourceError, and OSError."""
    if table.form == "lines":
        first = next((row.cells[LINE] for row in _rows(table, options) if not row.problem), "")
        found: Kind = kind or ("image" if is_url(first) else "text")
        refuse_urls(table.name, found, first, options)
        what = "the path or URL of a picture" if found == "image" else "a text"
        return replace(table, kind=found, column=LINE), f"{what} a line"
    if table.form == "json_lines":
        names, dialect = JsonLinesFile(Path(table.path), options.encoding).names, ""
    else:
        opened = _delimited(table, options)
        names, dialect = opened.names, f"; {opened.dialect()}"
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SourceError(f"{table.name} has several columns called {twice!r}: give each a name of its own")
    columns = choose_columns(table.name, names, options, kind)
    table = replace(table, kind=columns.kind, column=columns.value, key_column=columns.key)
    first = next((row.cells.get(columns.value) for row in _rows(table, options) if not row.problem), "")
    refuse_urls(table.name, columns.kind, first, options)
    return table, f"{columns.note}{dialect}"


def plan_table(table: Part, options: SourceOptions, keys: KeyRegister, skipped: SkippedSamples) -> Iterator[Part]:
    """Cuts a table that was recognized into parts, in one pass. Raises OSError."""
    literal = 0

    def places() -> Iterator[Place]:
        nonlocal literal
        for row in _rows(table, options):
            literal += row.literal
            yield Place(row.line, row.offset, key=_key(table, row))

    yield from cut(table, places(), options, keys)
    if literal:
        skipped.note(
            f"{table.name}: of {literal:,} rows the quotation marks are kept as they stand, since they do not close"
        )


def read_table(part: Part, options: SourceOptions) -> Iterator[Item]:
    """The rows of a part, of which none before are read."""
    rows = (
        RowValue(row.line, _key(part, row), row.cells.get(part.column), row.problem)
        for row in islice(_rows(part, options, (part.first, part.offset)), part.rows)
    )
    yield from to_items(rows, part, options)


def _key(table: Part, row: Row) -> str | None:
    return key_of(row.cells.get(table.key_column)) if table.key_column else None  # a column may have no name


def _rows(table: Part, options: SourceOptions, start: tuple[int, int] | None = None) -> Iterator[Row]:
    if table.form == "lines":
        return _lines(table, options, *(start or (1, 0)))
    if table.form == "json_lines":
        return JsonLinesFile(Path(table.path), options.encoding).rows(*(start or (1, 0)))
    return _delimited(table, options).rows(table.column, _names_item if table.kind == "image" else _never, start)


def _delimited(table: Part, options: SourceOptions) -> DelimitedFile:
    return DelimitedFile(Path(table.path), Dialect(options.encoding, options.delimiter), known)


def _lines(table: Part, options: SourceOptions, line: int, offset: int) -> Iterator[Row]:
    """All lines but blank ones, each as a cell."""
    with LineReader(Path(table.path), options.encoding) as lines:
        lines.seek(line, offset)
        begins = lines.offset
        while (text := lines.read()) is not None:
            if lines.too_long:
                yield Row(lines.number, {}, TOO_LONG, offset=begins)
            elif text := text.strip():
                yield Row(lines.number, {LINE: text}, offset=begins)
            begins = lines.offset


def _names_item(cell: str) -> bool:
    return is_url(cell) or names_picture(cell)


def _never(_: str) -> bool:
    return False
