"""What is computed now: one computation for each key, however many requests wait for it.

There is no future an item. A batch ends in one turn of the event loop, in which each request that waits for some of its
items counts them down, and is woken once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from service.admission import ItemReservation
from service.errors import ApiError
from service.inference.fair_queue import Entry, Vector
from service.inference.throughput import ThroughputEstimate
from service.request_context import Timing


class Wait:
    """A request's wait: `future` is done when all that it joined has ended or, if it is impatient, one has failed."""

    __slots__ = ("_impatient", "_left", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop, impatient: bool) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._impatient, self._left = impatient, 0

    def count_up(self) -> None:
        """One more is waited for."""
        self._left += 1

    def count_down(self, failed: bool) -> None:
        """One has ended."""
        self._left -= 1
        if (not self._left or (failed and self._impatient)) and not self.future.done():
            self.future.set_result(None)


class Share:
    """What one request computes on one tower: how long an item takes, as it was expected, and whose time that is."""

    __slots__ = ("reservation", "seconds", "throughput")

    def __init__(self, throughput: ThroughputEstimate, reservation: ItemReservation) -> None:
        self.throughput, self.reservation, self.seconds = throughput, reservation, throughput.seconds_per_item


class Computation(Entry):
    """One item on its way through decoding and its tower; `outcome` is None until it has ended."""

    __slots__ = ("_computations", "_is_cancelled", "_share", "_waits", "key", "outcome")

    def __init__(
        self,
        key: str,
        payload: Any,
        timing: Timing,
        loop: asyncio.AbstractEventLoop,
        computations: Computations,
        share: Share,
    ) -> None:
        super().__init__(payload, timing, loop)
        self.key, self._computations, self._share = key, computations, share
        self.outcome: Vector | ApiError | None = None
        self._is_cancelled = False
        self._waits: dict[Wait, None] = {}

    @property
    def cancelled(self) -> bool:
        """Whether all have left who waited for it."""
        return self._is_cancelled

    def join(self, wait: Wait) -> None:
        """Let it be waited for; by a request that holds the same item twice, once."""
        if wait not in self._waits:
            self._waits[wait] = None
            wait.count_up()

    def leave(self, wait: Wait) -> None:
        """Let it not be waited for any more; what nobody waits for is cancelled."""
        self._waits.pop(wait, None)
        if not self._waits and self.outcome is None:
            self._is_cancelled = True
            if self.task is not None:
                self.task.cancel()
            self._end(answered=False)

    def finish(self, outcome: Vector | ApiError) -> None:
        """Keep the vector, or why there is none, and tell those who wait."""
        if self._is_cancelled or self.outcome is not None:
            return
        self.outcome = outcome
        failed = isinstance(outcome, ApiError)
        self._end(answered=not failed)
        if not isinstance(outcome, ApiError):
            self._computations.store(self.key, outcome)
        for wait in self._waits:
            wait.count_down(failed)

    def _end(self, answered: bool) -> None:
        self._computations.remove(self)
        self._share.throughput.finish_item(answered)
        self._share.reservation.done(self._share.seconds)


class Computations:
    """Those in progress, by key. Used on the event loop only."""

    def __init__(self, store: Callable[[str, Vector], None]) -> None:
        """`store` is called with each key and the vector that it has come to."""
        self.store = store
        self._in_progress: dict[str, Computation] = {}

    def get(self, key: str) -> Computation | None:
        """The one in progress for that key."""
        return self._in_progress.get(key)

    def start(
        self, key: str, payload: Any, timing: Timing, loop: asyncio.AbstractEventLoop, share: Share
    ) -> Computation:
        """A new one, for whoever joins until it ends."""
        share.throughput.start_item()
        self._in_progress[key] = computation = Computation(key, payload, timing, loop, self, share)
        return computation

    def remove(self, computation: Computation) -> None:
        """Forget one that has ended."""
        if self._in_progress.get(computation.key) is computation:
            del self._in_progress[computation.key]
