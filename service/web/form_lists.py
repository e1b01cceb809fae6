"""Lists in forms and queries, which hold only strings: a JSON list, lines, commas, or the field once for each entry."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import ApiError
from service.schema.items import check_count

BYTE_ORDER_MARK = "\ufeff"  # what Windows programs put before UTF-8
# Templates begin with {} often enough, and no JSON object does.
_LIKE_JSON = re.compile(r'\[|\{\s*"')
_LINE_END = re.compile(r"\r\n|\r|\n")
_OTHER_SEPARATORS = re.compile(r"[;\t]")
_JSON_KINDS = {bool: "a boolean", int: "a number", float: "a number", dict: "an object", list: "a list"}


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries of one string; `empty` counts lines and places between commas without one."""

    read_as: str
    values: list[str]
    empty: int = 0


def read_labels(texts: Sequence[str], limit: int) -> tuple[list[str], str]:
    """Labels, and how they were read, as `commas; count=3; empty=1`.

    Each string is a JSON list, or CSV: labels on lines or between commas, in double quotes where they hold either.
    Raises `invalid_request` for what is neither or could be both, and `too_many_inputs` above `limit`.
    """
    labels, read_as = _read(texts, "labels", limit, _split_csv)
    if len(texts) == len(labels) == 1 and "json" not in read_as and (mark := _OTHER_SEPARATORS.search(labels[0])):
        raise _ambiguous("labels", f"This is one label with {mark[0]!r} in it; separate labels by commas or lines")
    return labels, read_as


def read_templates(texts: Sequence[str], limit: int) -> tuple[list[str], str]:
    """Templates, and how they were read: each string is a JSON list, or has one on each line. Raises as above."""
    return _read(texts, "templates", limit, _split_lines)


def _read(
    texts: Sequence[str], name: str, limit: int, split: Callable[[str, str, int], _Entries]
) -> tuple[list[str], str]:
    values: list[str] = []
    forms, empty = ["repeated"] if len(texts) > 1 else [], 0
    for text in texts:
        entries = _parse(text.removeprefix(BYTE_ORDER_MARK).strip(), name, limit, split)
        values += entries.values
        empty += entries.empty
        check_count(len(values) + empty, limit, name, name)
        if entries.read_as not in forms and not (entries.read_as == "single" and forms):
            forms.append(entries.read_as)
    return values, f"{', '.join(forms)}; count={len(values)}" + (f"; empty={empty}" if empty else "")


def _parse(text: str, name: str, limit: int, split: Callable[[str, str, int], _Entries]) -> _Entries:
    if _LIKE_JSON.match(text):
        return _Entries("json", _parse_json(text, name))
    entries = split(text, name, limit)
    return entries if entries.values else _Entries(entries.read_as, [""])  # which is refused as an empty one


def _parse_json(text: str, name: str) -> list[str]:
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _ambiguous(name, f"This begins like JSON and is not valid JSON: {error}") from None
    if not isinstance(value, list):
        raise _ambiguous(name, "This is a JSON object")
    for index, each in enumerate(value):
        if not isinstance(each, str):
            kind = _JSON_KINDS.get(type(each), "null")
            raise ApiError("invalid_request", f"This is {kind}; it must be a string.", f"{name}.{index}")
    return value


def _split_lines(text: str, name: str, limit: int) -> _Entries:
    lines = [line.strip() for line in _LINE_END.split(text)]
    kept = [line for line in lines if line]
    return _Entries("lines" if len(lines) > 1 else "single", kept, len(lines) - len(kept) if kept else 0)


def _split_csv(text: str, name: str, limit: int) -> _Entries:
    """Commas at the end of a line, as spreadsheets write them, and blank lines hold no label."""
    rows: list[list[str]] = []
    empty = count = 0
    for row in _csv_rows(text, name):
        count += len(row)
        check_count(count, limit, name, name)
        kept = _without_trailing_blanks(row)
        empty += len(row) - len(kept) or not row
        if kept:
            rows.append(kept)
    if len(rows) > 1 and any(len(row) > 1 for row in rows):
        raise _ambiguous(name, "This has both lines and commas: put entries that hold a comma into double quotes")
    values = [cell for row in rows for cell in row]
    commas = len(rows) == 1 and len(values) + empty > 1
    return _Entries("lines" if len(rows) > 1 else "commas" if commas else "single", values, empty)


def _csv_rows(text: str, name: str) -> Iterator[list[str]]:
    # newline="" leaves the line ends of Unix, Windows and old Macs to the reader, which knows them all.
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            yield [cell.strip() for cell in row]
    except csv.Error as error:
        raise _ambiguous(name, f"Double quotes here do not enclose whole entries ({error})") from None


def _without_trailing_blanks(row: list[str]) -> list[str]:
    length = len(row)
    while length and not row[length - 1]:
        length -= 1
    return row[:length]


def _ambiguous(name: str, reason: str) -> ApiError:
    example = '["a {}.", "one {}"]' if name == "templates" else '["cat", "red, green"]'
    return ApiError("invalid_request", f"{reason}; a JSON list is always clear: {example}.", name)
