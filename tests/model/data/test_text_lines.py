"""Lines among bytes: the same as Python's own reading of text, and each can be read without those before it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from model.data.delimited import DelimitedFile, Dialect
from model.data.text_lines import MAX_LINE, TOO_LONG, JsonLinesFile, LineReader

PIECES = ("\n", "\r\n", "\r", "a", "é", "Ċ", "\u0d00", "\u0a0d", "😀", " ", "x" * 70_000)  # bytes 0A and 0D inside, too


def lines_of(file: Path, encoding: str | None, line: int = 1, offset: int = 0) -> list[tuple[int, int, str]]:
    found = []
    with LineReader(file, encoding) as lines:
        lines.seek(line, offset)
        begins = lines.offset
        while (text := lines.read()) is not None:
            found.append((lines.number, begins, text))
            begins = lines.offset
        assert begins == max(offset, file.stat().st_size)
    return found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-be", "gb18030"])
def test_lines_are_those_of_python_and_can_be_read_from_any_one_on(tmp_path: Path, encoding: str) -> None:
    draw, file = random.Random(encoding), tmp_path / "a.txt"
    for _ in range(25):
        file.write_text("".join(draw.choices(PIECES, k=draw.randrange(40))), encoding, newline="")
        with file.open(encoding=encoding, newline="") as text:
            expected = list(text)
        found = lines_of(file, encoding)
        assert [text for _, _, text in found] == expected
        for number, offset, _ in found:
            assert lines_of(file, encoding, number, offset) == found[number - 1 :]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_without_an_end_takes_no_memory(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("short\n" + "x" * (5 * MAX_LINE) + "\nnext", encoding)
    with LineReader(tmp_path / "a.txt", encoding) as lines:
        assert (lines.read(), lines.too_long) == ("short\n", False)
        assert (lines.read() or "").startswith("xxx")
        assert lines.too_long
        assert len(lines._buffer) < 4 * 4 * MAX_LINE
        assert (lines.read(), lines.too_long, lines.number) == ("next", False, 3)


def test_rows_of_a_table_are_read_from_their_byte_on(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('path;text\na.jpg;"two\nlines; and more"\n\nb.jpg;"never closed\nc.jpg;last', "utf-16")
    table = DelimitedFile(file, Dialect(), len)
    rows = list(table.rows("path"))
    assert [(row.line, row.cells["text"]) for row in rows] == [
        (2, "two\nlines; and more"), (5, '"never closed'), (6, "last"),
    ]  # fmt: skip
    for number, row in enumerate(rows):
        assert list(table.rows("path", start=(row.line, row.offset))) == rows[number:]


def test_json_lines_are_read_from_their_byte_on(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "é"}\n\n[1]\n{"text": "b"}\n' + "x" * (MAX_LINE + 1) + "\n", "utf-8-sig")
    table = JsonLinesFile(file, None)
    rows = list(table.rows())
    assert [row.line for row in rows] == [1, 3, 4, 5]
    assert rows[-1].problem == TOO_LONG
    for number, row in enumerate(rows):
        assert list(table.rows(row.line, row.offset)) == rows[number:]
