"""Calls to Redis: bounded in time, never an exception, and the breaker is told how each went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis

from service.cache.breaker import Breaker
from service.cache.redis import KINDS, address_of, kind_of, reason_of, words_of
from service.metrics import Metrics

log = logging.getLogger(__name__)
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
        self._writable = metrics.redis_writable
        self.breaker = Breaker(self._probe, metrics.redis_up)

    async def check(self) -> bool:
        """Ask once for what requests will ask for, without storing anything; whether Redis reads. Tells the log."""
        at = address_of(self._redis)
        try:
            async with asyncio.timeout(PROBE_S):
                await self._mget(["probe"])
        except Exception as error:
            self.count(kind_of(error))
            self.breaker.open()
            log.error(
                "Redis at %s cannot be used (%s): until it can, vectors are not shared and label sets not stored",
                at,
                words_of(error, self._redis),
            )
            return False
        try:
            async with asyncio.timeout(PROBE_S):
                # Of a key that there is not: all is checked that may refuse a write, and nothing is written.
                await self._redis.set(self._prefix + "probe", b"", xx=True, px=1)
        except Exception as error:
            self.count(kind_of(error))
            self._writable.set(0)
            log.warning("Redis at %s stores no vectors (%s); it is still read", at, words_of(error, self._redis))
        else:
            self._writable.set(1)
            log.info("Redis at %s answers", at)
        return True

    async def read(self, keys: Sequence[str]) -> list[object] | None:
        """What lies under the keys, in their order: bytes, or None where nothing does. None if the call failed."""
        return await self._told(self._mget(keys))

    async def write(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> list[object] | None:
        """Store in one go: for each value what Redis said, an exception if it refused. None if the call failed."""
        return await self._told(self._set_all(values, ttl_s))

    def count(self, kind: str, number: int = 1) -> None:
        """Count failures of a kind."""
        self._errors[kind].inc(number)

    def note_writes(self, answers: Sequence[object]) -> str | None:
        """Count what Redis refused to store, and give the first reason; None if it stored all."""
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        for refusal in refusals:
            self.count(kind_of(refusal))
        self._writable.set(0 if refusals else 1)
        return reason_of(refusals[0], self._redis) if refusals else None

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
            self.count(kind_of(error))
            self.breaker.failed(began, reason_of(error, self._redis))
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
