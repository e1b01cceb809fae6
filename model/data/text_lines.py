"""Lines of a file of text, of which none takes more memory than a bound, whatever encoding they are in.

They are found among the bytes, so that it is known at which byte each begins, and one can be read without those before.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from model.data.files import check_regular
from model.data.text_files import BOMS, AnnotationError, detect_encoding, json_object

MAX_LINE = 4 << 20  # characters
TOO_LONG = f"the line has more than {MAX_LINE:,} characters"
SAMPLED_LINES = 100  # of JSON, whose names are the columns
_CHUNK = 1 << 18  # bytes
_IN_ORDER = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # of bytes behind a mark


@dataclass(frozen=True)
class Row:
    """Cells by column, or why it cannot be read; `line` counts from 1, and its first byte is at `offset`."""

    line: int
    cells: dict[str, Any]
    problem: str = ""
    literal: bool = False  # quotation marks were taken as they stand
    offset: int = 0


class LineReader:
    """Reads lines, which can be put back. `number` is that of the last one, from 1; `offset` is where the next begins.

    Lines end as Python's universal newlines do. Bytes that are no text come through as characters that no text has, so
    that they are found in their row.
    """

    def __init__(self, file: Path, encoding: str | None) -> None:
        """By its byte order mark, or in `encoding` or UTF-8. Raises OSError for what is no regular file."""
        check_regular(file)
        self._file = file.open("rb")
        start = self._file.read(4)
        self.encoding = detect_encoding(start, encoding)
        mark = next((bom for bom in BOMS if start.startswith(bom)), b"")
        codec = codecs.lookup(self.encoding).name
        self._codec = "utf-16-be" if mark == codecs.BOM_UTF16_BE else _IN_ORDER.get(codec, codec)
        self._errors = "surrogateescape" if self._codec == "utf-8" else "replace"
        self._ends = "\n".encode(self._codec), "\r".encode(self._codec)
        self._width, self._first = len(self._ends[0]), len(mark)
        self.seek(1, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, line: int, offset: int) -> None:
        """Go to the line of this number, which begins at this byte."""
        self._back, self._buffer, self._at, self._ended = deque[tuple[str, int]](), b"", 0, False
        self.number, self.offset, self.too_long = line - 1, max(offset, self._first), False
        self._file.seek(self.offset)

    def read(self) -> str | None:
        """The next line, its beginning if it is `too_long`, None at the end."""
        if self._back:
            line, self.offset = self._back.popleft()
            self.too_long = False
        else:
            raw = self._next_bytes()
            if not raw:
                return None
            line = raw.decode(self._codec, self._errors)
            self.too_long = self.too_long or len(line) > MAX_LINE
        self.number += 1
        return line

    def unread(self, lines: Sequence[tuple[str, int]], offset: int) -> None:
        """Put lines back, each with the `offset` behind it, to be read again in the same order from `offset` on."""
        self._back.extendleft(reversed(lines))
        self.number, self.offset = self.number - len(lines), offset

    def _next_bytes(self) -> bytes:
        self.too_long = False
        kept = b""
        while (end := self._end_of_line()) is None:
            if len(self._buffer) - self._at > 4 * MAX_LINE:  # as UTF-8 takes for a character
                kept = kept or self._buffer[self._at : self._at + MAX_LINE]
                rest = (
                    (len(self._buffer) - self._at - 4) // self._width * self._width
                )  # what may be half of an end stays
                self._at, self.offset, self.too_long = self._at + rest, self.offset + rest, True
            self._fill()
        line = self._buffer[self._at : end]
        self._at, self.offset = end, self.offset + len(line)
        return kept or line

    def _fill(self) -> None:
        more = self._file.read(max(_CHUNK, len(self._buffer) - self._at))
        self._buffer, self._at, self._ended = self._buffer[self._at :] + more, 0, not more

    def _end_of_line(self) -> int | None:
        """Where in the buffer the next line ends; None where more has to be read to know."""
        newline = self._find(self._ends[0], len(self._buffer))
        carriage_return = self._find(self._ends[1], len(self._buffer) if newline < 0 else newline)
        behind = carriage_return + self._width
        if carriage_return >= 0 and (self._ended or behind + self._width <= len(self._buffer)):
            return newline + self._width if behind == newline else behind
        if newline >= 0:
            return newline + self._width
        return len(self._buffer) if self._ended else None

    def _find(self, mark: bytes, end: int) -> int:
        found = self._buffer.find(mark, self._at, end)
        while found >= 0 and (found - self._at) % self._width:  # halves of two characters
            found = self._buffer.find(mark, found + 1, end)
        return found


class JsonLinesFile:
    """A file with a JSON object a line. Raises OSError."""

    def __init__(self, file: Path, encoding: str | None) -> None:
        self.file, self._encoding = file, encoding
        sampled = [row for _, row in zip(range(SAMPLED_LINES), self.rows(), strict=False)]
        self.names = sorted({name for row in sampled for name in row.cells})
        if sampled and not self.names:
            raise OSError(f"{file} holds no JSON objects, a line each. Line {sampled[0].line}: {sampled[0].problem}")

    def rows(self, line: int = 1, offset: int = 0) -> Iterator[Row]:
        """All lines but blank ones, from the one on that has this number and begins at this byte."""
        with LineReader(self.file, self._encoding) as lines:
            lines.seek(line, offset)
            begins = lines.offset
            while (text := lines.read()) is not None:
                if lines.too_long:
                    yield Row(lines.number, {}, TOO_LONG, offset=begins)
                elif text.strip():
                    yield _parse_row(lines.number, begins, text)
                begins = lines.offset


def _parse_row(number: int, offset: int, line: str) -> Row:
    try:
        return Row(number, json_object(line), offset=offset)
    except AnnotationError as error:
        return Row(number, {}, str(error), offset=offset)
