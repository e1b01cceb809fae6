"""The cache tier in Redis: shared by replicas, and kept over restarts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from service.cache.client import RedisClient
from service.cache.value import Vector, decode, encode
from service.metrics import Metrics

log = logging.getLogger(__name__)
QUEUE_ITEMS = 4096
WRITE_ITEMS = 64  # of one pipeline
READ_ITEMS = 128  # decoded between two turns of the event loop
FLUSH_S = 1.0
WARN_EVERY_S = 60.0


class RedisTier:
    """Vectors by key. Reads wait for Redis for the client's timeout; writes are queued, and may be lost."""

    def __init__(self, client: RedisClient, ttl_s: int, metrics: Metrics) -> None:
        self._client, self._ttl_s = client, ttl_s
        outcomes = ("hit", "miss", "invalid", "skipped", "error")
        self._lookups = {outcome: metrics.cache_lookups.labels("redis", outcome) for outcome in outcomes}
        self._queue: deque[tuple[str, Vector]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._next_warning = 0.0
        self._closing = False

    @property
    def idle(self) -> bool:
        """Whether no write is queued or on its way."""
        return self._writing is None

    async def check(self) -> bool:
        """Whether Redis can be read; logs what it refuses."""
        return await self._client.check()

    async def get(self, keys: Sequence[str], dimensions: int) -> dict[str, Vector]:
        """The vectors [dimensions] that are stored, by key; `keys` are distinct."""
        if not self._client.breaker.closed:
            self._lookups["skipped"].inc(len(keys))
            return {}
        values = await self._client.read(keys)
        if values is None:
            self._lookups["error"].inc(len(keys))
            return {}
        found: dict[str, Vector] = {}
        for start in range(0, len(keys), READ_ITEMS):
            if start:
                await asyncio.sleep(0)
            self._decode(keys[start : start + READ_ITEMS], values[start : start + READ_ITEMS], dimensions, found)
        return found

    def _decode(self, keys: Sequence[str], values: Sequence[object], dimensions: int, found: dict[str, Vector]) -> None:
        hits = misses = 0
        for key, value in zip(keys, values, strict=True):
            if value is None:
                misses += 1
            elif (vector := decode(key, value, dimensions)) is not None:
                found[key] = vector
                hits += 1
        self._lookups["hit"].inc(hits)
        self._lookups["miss"].inc(misses)
        self._lookups["invalid"].inc(len(keys) - hits - misses)

    def put(self, key: str, vector: Vector) -> None:
        """Queue a vector [dimensions] that is not changed any more for writing; dropped when the queue is full."""
        if self._closing or not self._client.breaker.closed:
            return
        if len(self._queue) >= QUEUE_ITEMS:
            self._client.count("dropped")
            return
        self._queue.append((key, vector))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue and self._client.breaker.closed:
                batch = [self._queue.popleft() for _ in range(min(WRITE_ITEMS, len(self._queue)))]
                answers = await self._client.write([(key, encode(key, vector)) for key, vector in batch], self._ttl_s)
                if answers is not None:
                    self._record_writes(answers)
        finally:
            self._queue.clear()
            self._writing = None

    def _record_writes(self, answers: Sequence[object]) -> None:
        """A Redis that is full, or a replica, refuses writes and still answers reads: the breaker stays closed."""
        refusal = self._client.record_writes(answers)
        now = asyncio.get_running_loop().time()
        if refusal is not None and now >= self._next_warning:  # at the limit it stores and refuses in turns
            self._next_warning = now + WARN_EVERY_S
            log.warning("Redis refuses to store vectors (%s); it is still asked for them", refusal)

    async def aclose(self) -> None:
        """Write what is queued, for at most FLUSH_S, and close the client."""
        self._closing = True
        if self._writing is not None:
            _, late = await asyncio.wait([self._writing], timeout=FLUSH_S)
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        await self._client.aclose()
