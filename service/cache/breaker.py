"""Circuit breaker for Redis: opens after consecutive failures, and closes once a background probe succeeds."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

log = logging.getLogger(__name__)
FAILURES = 3  # consecutive ones that open the circuit
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


class CircuitBreaker:
    """Closed: requests ask Redis. Open: none does; a background task probes with exponential backoff.

    For the event loop only. `probe` returns whether Redis is healthy, and raises nothing; `up` is set to 1 while the
    circuit is closed, else to 0.
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

    def record_success(self) -> None:
        """Reset the count of failures and the backoff."""
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S

    def record_failure(self, started: float, reason: str) -> None:
        """Count a failed call, which started at that time of the loop; FAILURES of them open the circuit.

        Concurrent calls count as one: if the loop was late, all of them timed out together.
        """
        if not self.closed or started < self._counted_at:
            return
        self._counted_at = asyncio.get_running_loop().time()
        self._failures += 1
        if self._failures >= FAILURES:
            log.warning("Redis fails (%s); going on without it until it answers again", reason)
            self.open()

    def open(self) -> None:
        """Stop asking Redis, and start probing until it is healthy."""
        self._up.set(0)
        if self.closed:
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_healthy())

    async def _probe_until_healthy(self) -> None:
        healthy = False
        while not healthy:
            await asyncio.sleep(self._pause_s * random.uniform(0.8, 1.2))  # replicas do not all come at once
            # Reset by a call that succeeds: a Redis that answers probes only is probed less and less often.
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            healthy = await self._probe()
        self._failures, self._probing = 0, None
        self._up.set(1)
        log.info("Redis answers again")

    async def aclose(self) -> None:
        """Cancel the probing task."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
