"""Leaves Redis alone when it fails again and again, and finds out by itself when it is back."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

log = logging.getLogger(__name__)
FAILURES = 3  # one after the other, until Redis is left alone
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


class Breaker:
    """Closed: Redis is asked. Open: it is not, but for a probe now and then that no request waits for.

    Lives on the event loop. `probe` tells whether Redis is well, and raises nothing.
    """

    def __init__(self, probe: Callable[[], Awaitable[bool]], up: Gauge) -> None:
        self._probe, self._up = probe, up
        self._failures = 0
        self._counted_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._probing: asyncio.Task[None] | None = None
        up.set(1)

    @property
    def closed(self) -> bool:
        """Whether Redis may be asked."""
        return self._probing is None

    def succeeded(self) -> None:
        """A call went well."""
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S

    def failed(self, began: float, why: str) -> None:
        """A call that began at that time of the loop went wrong.

        Calls that ran side by side count as one: if the loop was late, all of them timed out together.
        """
        if not self.closed or began < self._counted_at:
            return
        self._counted_at = asyncio.get_running_loop().time()
        self._failures += 1
        if self._failures >= FAILURES:
            log.warning("Redis fails (%s); going on without it until it answers again", why)
            self.open()

    def open(self) -> None:
        """Leave Redis alone, and find out by itself when it is well."""
        self._up.set(0)
        if self.closed:
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_well())

    async def _probe_until_well(self) -> None:
        well = False
        while not well:
            await asyncio.sleep(self._pause_s * random.uniform(0.8, 1.2))  # replicas do not all come at once
            # Taken back by a call that succeeds: a Redis that is well only for probes is probed less and less.
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            well = await self._probe()
        self._failures, self._probing = 0, None
        self._up.set(1)
        log.info("Redis answers again")

    async def aclose(self) -> None:
        """End the probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
