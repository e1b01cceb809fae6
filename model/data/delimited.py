"""Rows of a CSV or TSV file, whatever program wrote it: which dialect it is in is found out, and lost rows are counted.

A quotation mark that is opened and not closed would take all rows behind it into one cell: each record is therefore
read by Python's csv module on its own, and where it does not come out right, its first line alone is read again as it
stands.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.data.files import IMAGE_SUFFIXES, suffix_of
from model.data.text_lines import MAX_LINE, TOO_LONG, LineReader, Row

DELIMITERS = ("\t", ",", ";", "|")  # in the order in which they are tried
MAX_CELL = 1 << 20  # characters
MAX_LINES = 200  # of one record; a longer one is an open quotation mark
SEPARATOR = re.compile(r'"?sep=(.)"?')  # Excel's first line


@dataclass(frozen=True)
class Dialect:
    """How a table is written, as far as it is known."""

    encoding: str | None = None  # of one without a byte order mark; else UTF-8
    delimiter: str | None = None  # else what fits the first line
    quoting: Literal["csv", "none"] = "csv"  # none: quotation marks are as they stand


def names_picture(cell: str) -> bool:
    """Whether a cell is the name of a picture."""
    return suffix_of(cell) in IMAGE_SUFFIXES


class DelimitedFile:
    """A file of rows. Raises OSError."""

    def __init__(self, file: Path, dialect: Dialect, count_known: Callable[[Sequence[str]], int]) -> None:
        """`count_known` says how many of some names are known as columns, which finds the delimiter."""
        self.file, self._dialect = file, dialect
        with LineReader(file, dialect.encoding) as lines:
            self.encoding, configured = lines.encoding, dialect.delimiter
            first = (lines.read() or "").rstrip("\r\n")
            if SEPARATOR.fullmatch(first):
                configured = configured or first[first.index("=") + 1]
                first = (lines.read() or "").rstrip("\r\n")
            self._start = lines.number + 1, lines.offset
        if "\0" in first:
            raise OSError(f"{file} is no text in {self.encoding}: say `encoding: utf-16-le` if it was saved as Unicode")
        options = [(count_known(names), len(names), -number, delimiter, names)
                   for number, delimiter in enumerate([configured] if configured else DELIMITERS)
                   for names in [_header(first, delimiter)]]  # fmt: skip
        *_, self.delimiter, self.names = max(options)
        self._column = 0
        self._is_value: Callable[[str], bool] = names_picture

    def rows(
        self, column: str, is_value: Callable[[str], bool] = names_picture, start: tuple[int, int] | None = None
    ) -> Iterator[Row]:
        """All rows behind the first, or from `start` on, which is the number of a line and its first byte.

        Where a quotation mark is open, lines that have a value in `column` by `is_value` are rows of their own.
        """
        self._column, self._is_value = self.names.index(column), is_value
        with LineReader(self.file, self._dialect.encoding) as lines:
            lines.seek(*(start or self._start))
            begins = lines.offset
            while (line := lines.read()) is not None:
                if line.strip():
                    yield self._row(line, lines, begins)
                begins = lines.offset

    def dialect(self) -> str:
        """How the file is read, in words."""
        names = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
        quoted = ", quotation marks as they stand" if self._dialect.quoting == "none" else ""
        return f"{self.encoding}, separated by {names.get(self.delimiter, repr(self.delimiter))}{quoted}"

    def _row(self, line: str, lines: LineReader, offset: int) -> Row:
        number = lines.number
        if lines.too_long:
            return Row(number, {}, TOO_LONG, offset=offset)
        cells, literal = self._cells(line, lines)
        if any(len(cell) > MAX_CELL for cell in cells):
            return Row(number, {}, f"a cell has more than {MAX_CELL:,} characters", offset=offset)
        if any(cell.strip() for cell in cells[len(self.names) :]):
            mark = "a quotation mark that is not closed, and " if literal else ""
            problem = f"{mark}{len(cells)} cells, where the first line names {len(self.names)} columns"
            return Row(number, {}, problem, offset=offset)
        by_name = dict(zip(self.names, (cell.strip() for cell in cells), strict=False))
        return Row(number, by_name, literal=literal, offset=offset)

    def _cells(self, line: str, lines: LineReader) -> tuple[list[str], bool]:
        plain = line.rstrip("\r\n").split(self.delimiter)
        if '"' not in line or self._dialect.quoting == "none":
            return plain, False
        for escape in (None, "\\"):  # as MySQL and Spark write
            if (record := self._quoted(line, lines, escape)) is not None:
                return record, False
        return plain, True

    def _quoted(self, line: str, lines: LineReader, escape: str | None) -> list[str] | None:
        taken, begins = list[tuple[str, int]](), lines.offset

        def following() -> Iterator[str]:
            yield line
            while len(taken) < MAX_LINES and (more := lines.read()) is not None:
                taken.append((more, lines.offset))
                if self._is_row(more):
                    return
                yield more

        record = _parse_record(following(), self.delimiter, escape)
        if escape and not any(f'{escape}"' in part for part in (line, *(more for more, _ in taken))):
            record = None
        if record is None:
            lines.unread(taken, begins)
        return record

    def _is_row(self, line: str) -> bool:
        """Whether a line would be a row of its own: as many cells as columns, a value where one belongs."""
        cells = line.rstrip("\r\n").split(self.delimiter)
        return len(cells) == len(self.names) and self._is_value(cells[self._column].strip(' "'))


def _header(line: str, delimiter: str) -> list[str]:
    cells = _parse_record([line], delimiter) or line.split(delimiter)
    return [cell.strip() for cell in cells]


def _parse_record(lines: Sequence[str] | Iterator[str], delimiter: str, escape: str | None = None) -> list[str] | None:
    """The cells of one record, in which quotation marks are doubled or behind `escape`; None if it is none."""
    csv.field_size_limit(MAX_LINE)
    try:
        rows = csv.reader(lines, delimiter=delimiter, strict=True, escapechar=escape, doublequote=escape is None)
        return next(rows, None)
    except csv.Error:
        return None
