"""Single flight: concurrent requests for one key share one computation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from service.errors import without_frames

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Computations in progress, by key. Used on the event loop only."""

    def __init__(self) -> None:
        self._in_progress: dict[str, _Computation[T]] = {}

    def join(self, key: str) -> asyncio.Future[T] | None:
        """A future of the result of the computation in progress for `key`; None if there is none."""
        computation = self._in_progress.get(key)
        return computation.add_waiter() if computation else None

    def start(self, key: str, work: asyncio.Future[T]) -> None:
        """Register `work` as the computation for `key`, for whoever joins until it is done."""
        self._in_progress[key] = computation = _Computation(work, partial(self._remove, key))
        work.add_done_callback(lambda _: self._remove(key, computation))

    def _remove(self, key: str, computation: _Computation[T]) -> None:
        if self._in_progress.get(key) is computation:
            del self._in_progress[key]


class _Computation(Generic[T]):
    """One computation and the futures of those who wait for it; cancelled once all of these are."""

    def __init__(self, work: asyncio.Future[T], on_abandoned: Callable[[_Computation[T]], None]) -> None:
        self._work, self._on_abandoned = work, on_abandoned
        self._waiters: set[asyncio.Future[T]] = set()
        work.add_done_callback(self._resolve_waiters)

    def add_waiter(self) -> asyncio.Future[T]:
        waiter: asyncio.Future[T] = self._work.get_loop().create_future()
        self._waiters.add(waiter)
        waiter.add_done_callback(self._remove_waiter)
        return waiter

    def _remove_waiter(self, waiter: asyncio.Future[T]) -> None:
        self._waiters.discard(waiter)
        if not self._waiters and not self._work.done():
            self._on_abandoned(self)
            self._work.cancel()

    def _resolve_waiters(self, work: asyncio.Future[T]) -> None:
        error = None if work.cancelled() else work.exception()
        for waiter in tuple(self._waiters):
            if waiter.done():
                continue
            if work.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(without_frames(error))  # a copy each: raised, it gathers frames
            else:
                waiter.set_result(work.result())
