"""The tier in Redis, shared by replicas and kept over restarts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from redis.asyncio import Redis

from service.cache.calls import Calls
from service.cache.value import Vector, decode, encode
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)
QUEUE_ITEMS = 4096
WRITE_ITEMS = 64  # stored in one go
READ_ITEMS = 128  # decoded until others have their turn
FLUSH_S = 1.0
TELL_S = 60.0


class Remote:
    """Vectors by key. Reads wait for Redis, though not for long; writes are queued, and some of them may be lost."""

    def __init__(self, redis: Redis, settings: Settings, metrics: Metrics) -> None:
        self._calls = Calls(redis, settings.redis_prefix, metrics)
        self._ttl_s = settings.cache_ttl_s
        outcomes = ("hit", "miss", "invalid", "skipped", "error")
        self._lookups = {outcome: metrics.cache_lookups.labels("redis", outcome) for outcome in outcomes}
        self._queue: deque[tuple[str, Vector]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._tell_at = 0.0
        self._closing = False

    async def check(self) -> bool:
        """Whether Redis reads; what it refuses is told to the log."""
        return await self._calls.check()

    async def get(self, keys: Sequence[str], dimensions: int) -> dict[str, Vector]:
        """Those vectors [dimensions] that are there, of different keys."""
        if not self._calls.breaker.closed:
            self._lookups["skipped"].inc(len(keys))
            return {}
        values = await self._calls.read(keys)
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
        """Store a vector that does not change any more, later."""
        if self._closing or not self._calls.breaker.closed:
            return
        if len(self._queue) >= QUEUE_ITEMS:
            self._calls.count("dropped")
            return
        self._queue.append((key, vector))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._queue and self._calls.breaker.closed:
                batch = [self._queue.popleft() for _ in range(min(WRITE_ITEMS, len(self._queue)))]
                answers = await self._calls.write([(key, encode(key, vector)) for key, vector in batch], self._ttl_s)
                if answers is not None:
                    self._note(answers)
        finally:
            self._queue.clear()
            self._writing = None

    def _note(self, answers: Sequence[object]) -> None:
        """Redis may refuse to store and still answer: it is full, or a replica. That is no reason not to ask it."""
        refusal = self._calls.note_writes(answers)
        now = asyncio.get_running_loop().time()
        if refusal is not None and now >= self._tell_at:  # at the limit it stores and refuses in turns
            self._tell_at = now + TELL_S
            log.warning("Redis refuses to store vectors (%s); it is still asked for them", refusal)

    async def aclose(self) -> None:
        """Write what is queued, if that does not take long, and end."""
        self._closing = True
        if self._writing is not None:
            _, late = await asyncio.wait([self._writing], timeout=FLUSH_S)
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        await self._calls.aclose()
