"""Lines of a table, of which none takes more memory than a bound, whatever encoding they are in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from model.data.files import check_regular
from model.data.text_files import AnnotationError, detect_encoding, json_object

MAX_LINE = 4 << 20  # characters
SAMPLED_LINES = 100  # of JSON, whose names are the columns


@dataclass(frozen=True)
class Row:
    """Cells by column, or why it cannot be read; `line` counts from 1."""

    line: int
    cells: dict[str, Any]
    problem: str = ""
    literal: bool = False  # quotation marks were taken as they stand


def open_text(file: Path, encoding: str | None) -> TextIO:
    """A regular file as text, by its byte order mark or in `encoding` or UTF-8. Raises OSError.

    Bytes that are no text come through as characters that no text has, so that they are found in their row.
    """
    check_regular(file)
    with file.open("rb") as start:
        used = detect_encoding(start.read(4), encoding)
    errors = "surrogateescape" if used.startswith("utf-8") else "replace"
    return file.open(encoding=used, errors=errors, newline="")


class LineReader:
    """Reads lines of a text, which can be put back; `number` is that of the last one, from 1."""

    def __init__(self, text: TextIO) -> None:
        self._text, self._back = text, deque[str]()
        self.number, self.too_long = 0, False

    def read(self) -> str | None:
        """The next line, its beginning if it is `too_long`, None at the end."""
        self.too_long = False
        line = self._back.popleft() if self._back else self._text.readline(MAX_LINE)
        if not line:
            return None
        self.number += 1
        rest = line
        while len(rest) == MAX_LINE and not rest.endswith(("\n", "\r")):
            self.too_long = True
            rest = self._text.readline(MAX_LINE)
        return line

    def unread(self, lines: Sequence[str]) -> None:
        """Put lines back, to be read again in the same order."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


class JsonLinesFile:
    """A file with a JSON object a line. Raises OSError."""

    def __init__(self, file: Path, encoding: str | None) -> None:
        self.file, self._encoding = file, encoding
        sampled = [row for _, row in zip(range(SAMPLED_LINES), self.rows(), strict=False)]
        self.names = sorted({name for row in sampled for name in row.cells})
        if sampled and not self.names:
            raise OSError(f"{file} holds no JSON objects, a line each. Line {sampled[0].line}: {sampled[0].problem}")

    def rows(self) -> Iterator[Row]:
        """All lines but blank ones."""
        with open_text(self.file, self._encoding) as text:
            lines = LineReader(text)
            while (line := lines.read()) is not None:
                if lines.too_long:
                    yield Row(lines.number, {}, f"the line has more than {MAX_LINE:,} characters")
                elif line.strip():
                    yield _parse_row(lines.number, line)


def _parse_row(number: int, line: str) -> Row:
    try:
        return Row(number, json_object(line))
    except AnnotationError as error:
        return Row(number, {}, str(error))
