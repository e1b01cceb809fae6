"""Who may come in: requests, items, bytes and expected seconds are reserved here, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from prometheus_client import Gauge

from service.errors import ApiError


class Admission:
    """Counts items and the seconds they will take from admission to answer, and bytes from the first received.

    What is larger than a limit by itself gets in only when nobody else is.
    """

    def __init__(
        self, limit_items: int, limit_bytes: int, items_gauge: Gauge, bytes_gauge: Gauge, limit_s: float = math.inf
    ) -> None:
        self.limit_items, self.limit_bytes = limit_items, limit_bytes
        self.items = self.bytes = self.requests = 0
        self.limit_s = limit_s
        self.works: set[Work] = set()
        items_gauge.set_function(lambda: self.items)
        bytes_gauge.set_function(lambda: self.bytes)

    @property
    def full(self) -> bool:
        """Whether not even one more item fits."""
        return max(self.items, self.requests) >= self.limit_items

    def refuse_if_full(self, items: int = 1, size: int = 0) -> None:
        """Raise `overloaded` if so many more items, or bytes, do not fit now."""
        if self.items and self.items + items > self.limit_items:
            raise _overloaded(f"{self.items} items are at work or waiting, of {self.limit_items} places")
        if self.bytes and self.bytes + size > self.limit_bytes:
            raise _overloaded(f"{self.bytes} bytes of requests are held and the limit is {self.limit_bytes}")

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count a request until its answer: as many as the limit of items may be inside, whatever they hold.

        Raises `overloaded`. What they hold is known only once they have been read, which is work, too.
        """
        if self.requests >= self.limit_items:
            raise _overloaded(f"{self.requests} requests are at work or waiting and the limit is {self.limit_items}")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def admit(self, items: int) -> Iterator[Work]:
        """Hold places for so many items, or raise `overloaded`. What they will cost is told to what this gives."""
        self.refuse_if_full(items)
        work = Work(self)
        self.items += items
        self.works.add(work)
        try:
            yield work
        finally:
            self.works.discard(work)
            self.items -= items

    def hold_bytes(self) -> ByteReservation:
        """Count what a request receives, until the end of the `with`."""
        return ByteReservation(self)


class Work:
    """The seconds that what is left to do for one request will take, where nothing else is at work."""

    def __init__(self, admission: Admission) -> None:
        self.seconds = 0.0
        self._admission = admission

    def expect(self, seconds: float) -> None:
        """So many are left. Raises `overloaded` if the answer would come too late beside what others have left.

        Requests take turns: of what another has left, as much is done before this one ends as this one has itself. So
        a large request waits for all others, and a small one, whatever is at work, not for long.
        """
        others_s = sum(min(seconds, other.seconds) for other in self._admission.works if other is not self)
        if others_s and seconds + others_s > self._admission.limit_s:
            limit = f"{self._admission.limit_s:g} s"
            raise _overloaded(f"with what is at work, this would take {seconds + others_s:.0f} s, of at most {limit}")
        self.seconds = seconds

    def done(self, seconds: float) -> None:
        """So many less are left."""
        self.seconds = max(0.0, self.seconds - seconds)


class ByteReservation:
    """The bytes that one request holds."""

    def __init__(self, admission: Admission) -> None:
        self.size = 0
        self._admission = admission

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release(self.size)

    def add(self, size: int) -> None:
        """Hold so many more bytes, or raise `overloaded`."""
        others = self._admission.bytes - self.size
        if others:
            self._admission.refuse_if_full(0, size)
        self.count(size)

    def count(self, size: int) -> None:
        """Hold so many more bytes, however many there are: an answer, which is not refused any more."""
        self.size += size
        self._admission.bytes += size

    def release(self, size: int) -> None:
        """Hold so many bytes less: they were received in vain."""
        self.size -= size
        self._admission.bytes -= size


def _overloaded(why: str) -> ApiError:
    return ApiError("overloaded", f"{why}; try again shortly.")
