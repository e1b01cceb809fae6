"""Rows of a table to items: texts checked, paths read, URLs fetched a few ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from service.bulk.sources.cells import Payload, is_url, picture_of, text_of
from service.bulk.sources.fetching import AT_ONCE, UrlReader
from service.bulk.sources.part import Item, Part, SourceOptions, utf8_name

# Characters of a key, path or URL: all of a part are in memory, and a page of Parquet may repeat a long one often.
MAX_NAME = 8192


class RowValue(NamedTuple):
    """What is embedded of a row, or why it cannot be read."""

    number: int
    key: str | None  # None: the number
    value: Any
    problem: str = ""


def key_of(value: Any) -> str | None:
    """A cell as a key; None where it is none, so that the number of the row takes its place."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and value.is_integer():  # as pandas writes whole numbers where one is missing
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    key = utf8_name(str(value)).strip()
    return key if 0 < len(key) <= MAX_NAME else None


def to_items(rows: Iterator[RowValue], part: Part, options: SourceOptions) -> Iterator[Item]:
    """Items in the order of the rows."""
    waiting = deque[tuple[RowValue, Future[Payload] | None]]()
    with UrlReader(options) as urls:
        for row in rows:
            fetched = part.kind == "image" and not row.problem and is_url(row.value)
            waiting.append((row, urls.start(row.value.strip()) if fetched else None))
            while waiting and (waiting[0][1] is None or len(waiting) == AT_ONCE):
                yield _item(*waiting.popleft(), part, options)
        while waiting:
            yield _item(*waiting.popleft(), part, options)


def _item(row: RowValue, fetch: Future[Payload] | None, part: Part, options: SourceOptions) -> Item:
    by_number = f"{part.name}#{row.number}"
    source: str | None = None
    if row.problem:
        payload: Payload = None, row.problem
    elif fetch is not None:
        payload, source = fetch.result(), utf8_name(row.value.strip())[:MAX_NAME]
    elif part.kind == "image":
        payload, source = picture_of(row.value, Path(part.path).parent, options)
        source = source and source[:MAX_NAME]
    else:
        payload = text_of(row.value)
    return Item(row.key or by_number, source or by_number, *payload)
