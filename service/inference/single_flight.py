"""Work that several requests wait for at the same time, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from service.errors import without_frames

T = TypeVar("T")


class Flights(Generic[T]):
    """Results in the making, by their key in a cache. Lives on the event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def join(self, key: str) -> asyncio.Future[T] | None:
        """A future of what somebody else already asked for, if so."""
        flight = self._flights.get(key)
        return flight.wait() if flight else None

    def start(self, key: str, work: asyncio.Future[T]) -> asyncio.Future[T]:
        """A future of what `work` will give; others may join until it is done."""
        self._flights[key] = flight = _Flight(work, partial(self._forget, key))
        work.add_done_callback(lambda _: self._forget(key, flight))
        return flight.wait()

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Flight(Generic[T]):
    """One piece of work and those who wait for it. Cancelled when the last of them has left."""

    def __init__(self, work: asyncio.Future[T], abandon: Callable[[_Flight[T]], None]) -> None:
        self._work, self._abandon = work, abandon
        self._waiting: set[asyncio.Future[T]] = set()
        work.add_done_callback(self._land)

    def wait(self) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._work.get_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, future: asyncio.Future[T]) -> None:
        self._waiting.discard(future)
        if not self._waiting and not self._work.done():
            self._abandon(self)
            self._work.cancel()

    def _land(self, work: asyncio.Future[T]) -> None:
        error = None if work.cancelled() else work.exception()
        for future in tuple(self._waiting):
            if future.done():
                continue
            if work.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(without_frames(error))  # to each its own: raised, it gathers frames
            else:
                future.set_result(work.result())
