"""Admission control: requests, items, bytes and expected seconds are reserved here, before any work is done.

Whatever is over a limit is refused with `overloaded` (429), by this module alone. What is larger than a limit by itself
gets in only when nobody else is. With several worker processes, requests, items and bytes are those of all of them. The
seconds are this process' own: a request waits in the queue of the worker that has its connection, and for nothing in
those of others, and the pace at which that queue goes down is read while the others take their part of the machine.
"""

from __future__ import annotations

import math
from typing import Self

from prometheus_client import Gauge

from service.board import Board, Field, Row
from service.errors import ApiError


class Admission:
    """What is reserved now: `requests` at work, `items` at work or queued, `bytes` held, and `seconds` of work left."""

    def __init__(
        self,
        limit_items: int,
        limit_bytes: int,
        items_gauge: Gauge,
        bytes_gauge: Gauge,
        limit_s: float = math.inf,
        row: Row | None = None,
    ) -> None:
        """`row` is where this process writes what it holds; without one, it is alone. The gauges are of it alone."""
        self.limit_items, self.limit_bytes, self.limit_s = limit_items, limit_bytes, limit_s
        self.row = row or Board.of_one().row(0)
        self.reservations: set[ItemReservation] = set()
        self.seconds = 0.0  # of all reservations
        items_gauge.set_function(lambda: self.row.get(Field.ITEMS))
        bytes_gauge.set_function(lambda: self.row.get(Field.BYTES))

    @property
    def requests(self) -> int:
        """Requests at work, of all workers."""
        return self.row.board.total(Field.REQUESTS)

    @property
    def items(self) -> int:
        """Items at work or queued, of all workers."""
        return self.row.board.total(Field.ITEMS)

    @property
    def bytes(self) -> int:
        """Bytes held, of all workers."""
        return self.row.board.total(Field.BYTES)

    @property
    def free(self) -> int:
        """How many more items fit; where none does, what comes in is refused by its head, with `queue_full`."""
        return self.limit_items - max(self.items, self.requests)

    def check(self, items: int = 0, size: int = 0) -> None:
        """Raise `overloaded` if so many more items, or bytes, do not fit now. Reserves nothing."""
        held_items, held_bytes = self.items, self.bytes
        if held_items and held_items + items > self.limit_items:
            raise overloaded(f"{held_items} items are at work or waiting, of {self.limit_items} places")
        if held_bytes and held_bytes + size > self.limit_bytes:
            raise overloaded(f"{held_bytes} bytes of requests are held and the limit is {self.limit_bytes}")

    def reserve_bytes(self, *, refusable: bool = True) -> ByteReservation:
        """The bytes of one request, none yet, until the end of the `with`."""
        return ByteReservation(self, refusable)

    def reserve_request(self) -> RequestReservation:
        """A place for a request whose body is read: as many as the limit of items, whatever these requests hold.

        Raises `overloaded`. How many items they hold is known only once they have been parsed, which is work, too.
        """
        requests = self.requests
        if requests >= self.limit_items:
            raise overloaded(f"{requests} requests are at work or waiting and the limit is {self.limit_items}")
        return RequestReservation(self)

    def reserve_items(self, items: int) -> ItemReservation:
        """Places for so many items, until the end of the `with`. Raises `overloaded`."""
        self.check(items)
        return ItemReservation(self, items)


class RequestReservation:
    """The place of one request, in the `with`. Classes, as here, take half the time of generators."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __enter__(self) -> None:
        self._admission.row.add(Field.REQUESTS, 1)

    def __exit__(self, *_: object) -> None:
        self._admission.row.add(Field.REQUESTS, -1)


class ItemReservation:
    """The items of one request, and the seconds that what is left of them will take where nothing else is at work."""

    def __init__(self, admission: Admission, items: int) -> None:
        self.seconds = 0.0
        self._admission, self._items = admission, items

    def __enter__(self) -> Self:
        self._admission.row.add(Field.ITEMS, self._items)
        self._admission.reservations.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        admission = self._admission
        admission.reservations.discard(self)
        self.done(self.seconds)
        if not admission.reservations:
            admission.seconds = 0.0  # without the sum of all roundings
        admission.row.add(Field.ITEMS, -self._items)

    def expect(self, seconds: float) -> None:
        """Reserve so many seconds in place of those before.

        Raises `overloaded` if the answer would come too late beside what others have left. Requests are served round
        robin: of what another has left, as much is done before this one ends as this one has itself. So a large request
        waits for all others, and a small one, whatever is at work, not for long.
        """
        admission = self._admission
        if seconds + admission.seconds > admission.limit_s:  # else there is no need to look at a thousand of them
            others_s = sum(min(seconds, other.seconds) for other in admission.reservations if other is not self)
            if others_s and seconds + others_s > admission.limit_s:
                limit = f"{admission.limit_s:g} s"
                raise overloaded(
                    f"with what is at work, this would take {seconds + others_s:.0f} s, of at most {limit}"
                )
        self._set(seconds)

    def done(self, seconds: float) -> None:
        """So many seconds less are left."""
        self._set(max(0.0, self.seconds - seconds))

    def _set(self, seconds: float) -> None:
        self._admission.seconds += seconds - self.seconds
        self.seconds = seconds


class ByteReservation:
    """The bytes that one request holds: its body, pictures fetched for it, and an answer that is not read yet."""

    def __init__(self, admission: Admission, refusable: bool) -> None:
        self.size = 0
        self._admission, self._refusable = admission, refusable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release(self.size)

    def add(self, size: int) -> None:
        """Hold so many more bytes. Raises `overloaded` where the request is refusable."""
        if self._refusable and self._admission.bytes > self.size:  # others hold some
            self._admission.check(size=size)
        self.add_unconditionally(size)

    def add_unconditionally(self, size: int) -> None:
        """Hold so many more bytes, however many there are: an answer, which is not refused any more."""
        self.size += size
        self._admission.row.add(Field.BYTES, size)

    def release(self, size: int) -> None:
        """Hold so many bytes less."""
        self.size -= size
        self._admission.row.add(Field.BYTES, -size)


def overloaded(reason: str) -> ApiError:
    """The one 429."""
    return ApiError("overloaded", f"{reason}; try again shortly.")


def queue_full() -> ApiError:
    """The 429 of a request that is refused by its head while none is `Admission.free`."""
    return overloaded("The queue is full")
