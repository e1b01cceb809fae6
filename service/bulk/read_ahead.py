"""A thread that reads while others compute: a bounded queue between an iterator and who uses what it gives."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.25
_END = object()


def read_ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The items, at most `depth` of them read before they are asked for. Raises what the iterator raised, in its place.

    The thread ends with the iterator that this gives: when that is exhausted or closed.
    """
    ready: queue.Queue[object] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: object) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            if all(map(put, items)):
                put(_END)
        except BaseException as error:
            put(_Failure(error))

    thread = threading.Thread(target=read, name="bulk-read", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        closed.set()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
