"""Calls to Redis: bounded in time, never an exception, and the breaker is told how each went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis

from service.cache.breaker import Breaker
from service.cache.redis import KINDS, kind_of
from service.metrics import Metrics

T = TypeVar("T")
TIMEOUT_S = 0.05
LAST_LOOK_S = 0.005  # part of it: time to read what arrived while the loop was busy with other things
PROBE_S = 1.0
CLOSE_S = 0.5


class ProtocolError(Exception):
    """An answer that Redis would not give."""


class Calls:
    """What is asked of Redis. Lives on the event loop."""

    def __init__(self, redis: Redis, prefix: str, metrics: Metrics) -> None:
        self._redis, self._prefix = redis, prefix
        self._errors = {kind: metrics.redis_errors.labels(kind) for kind in KINDS}
        self.breaker = Breaker(self._probe, metrics.redis_up)

    async def read(self, keys: Sequence[str]) -> list[object] | None:
        """What lies under the keys, in their order: bytes, or None where nothing does. None if the call failed."""
        return await self._told(self._mget(keys))

    async def write(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> list[object] | None:
        """Store in one go: for each value what Redis said, an exception if it refused. None if the call failed."""
        return await self._told(self._set_all(values, ttl_s))

    def count(self, kind: str, number: int = 1) -> None:
        """Count failures of a kind."""
        self._errors[kind].inc(number)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.breaker.aclose()
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._redis.aclose()

    async def _told(self, call: Awaitable[T]) -> T | None:
        began = asyncio.get_running_loop().time()
        try:
            answer = await _bounded(call)
        except Exception as error:  # there is no telling what nonsense from the network makes of the client
            kind = kind_of(error)
            self.count(kind)
            self.breaker.failed(began, kind)
            return None
        self.breaker.succeeded()
        return answer

    async def _probe(self) -> bool:
        try:
            # Connecting takes more than one turn of the loop, which a busy process does not make in 50 ms.
            async with asyncio.timeout(PROBE_S):
                await self._mget(["probe"])
            await _bounded(self._mget(["probe"]))
        except Exception as error:
            self.count(kind_of(error))
            return False
        return True

    async def _mget(self, keys: Sequence[str]) -> list[object]:
        names = [self._prefix + key for key in keys]
        answer: object = await self._redis.execute_command("MGET", *names)  # type: ignore[no-untyped-call]
        if not isinstance(answer, list) or len(answer) != len(keys):
            raise ProtocolError
        return answer

    async def _set_all(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> list[object]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, value in values:
                pipeline.set(self._prefix + key, value, ex=ttl_s)
            return list(await pipeline.execute(raise_on_error=False))


async def _bounded(call: Awaitable[T]) -> T:
    """Await for at most TIMEOUT_S. Raises TimeoutError.

    When a loop is late, timers come before what has arrived meanwhile. So the time ends in two steps, between which
    the loop reads.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        first = loop.call_later(TIMEOUT_S - LAST_LOOK_S, lambda: limit.reschedule(loop.time() + LAST_LOOK_S))
        try:
            return await call
        finally:
            first.cancel()
