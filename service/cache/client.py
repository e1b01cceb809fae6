"""A Redis client whose calls are bounded in time, never raise, and report to a circuit breaker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis

from service.cache.breaker import CircuitBreaker
from service.cache.connection import KINDS, address, describe_failure, error_kind, error_message
from service.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")
LAST_READ_S = 0.005  # of a timeout: time to read what arrived while the loop was busy with other things
CLOSE_S = 0.5


class ProtocolError(Exception):
    """An answer that Redis would not give."""


class RedisClient:
    """Reads and writes values under keys that all begin with `prefix`. For the event loop only.

    `timeout_s` bounds a call that a request waits for, `probe_timeout_s` the first call and those of the breaker.
    """

    def __init__(
        self, redis: Redis, prefix: str, metrics: Metrics, *, timeout_s: float, probe_timeout_s: float
    ) -> None:
        self._redis, self._prefix = redis, prefix
        self._timeout_s, self._probe_timeout_s = timeout_s, probe_timeout_s
        self._errors = {kind: metrics.redis_errors.labels(kind) for kind in KINDS}
        self._writable = metrics.redis_writable
        self.breaker = CircuitBreaker(self._probe, metrics.redis_up)

    async def check(self) -> bool:
        """Try a read and a write that stores nothing, and log the outcome; returns whether Redis can be read."""
        at = address(self._redis)
        try:
            async with asyncio.timeout(self._probe_timeout_s):
                await self._mget(["probe"])
        except Exception as error:
            self.count(error_kind(error))
            self.breaker.open()
            log.error(
                "Redis at %s cannot be used (%s): until it can, vectors are not shared and label sets not stored",
                at,
                error_message(error, self._redis),
            )
            return False
        try:
            async with asyncio.timeout(self._probe_timeout_s):
                # Of a key that there is not: all is checked that may refuse a write, and nothing is written.
                await self._redis.set(self._prefix + "probe", b"", xx=True, px=1)
        except Exception as error:
            self.count(error_kind(error))
            self._writable.set(0)
            log.warning("Redis at %s stores no vectors (%s); it is still read", at, error_message(error, self._redis))
        else:
            self._writable.set(1)
            log.info("Redis at %s answers", at)
        return True

    async def read(self, keys: Sequence[str]) -> list[object] | None:
        """MGET: for each key its bytes, or None where there are none. None if the call failed."""
        return await self._guarded(self._mget(keys))

    async def write(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> list[object] | None:
        """SET all pairs in one pipeline: for each the reply, an exception if refused. None if the call failed."""
        return await self._guarded(self._set_all(values, ttl_s))

    def count(self, kind: str, number: int = 1) -> None:
        """Count failures of a kind, one of KINDS, in the metrics."""
        self._errors[kind].inc(number)

    def record_writes(self, answers: Sequence[object]) -> str | None:
        """Count the replies to `write` that are refusals; returns the reason of the first one, or None."""
        refusals = [answer for answer in answers if isinstance(answer, Exception)]
        for refusal in refusals:
            self.count(error_kind(refusal))
        self._writable.set(0 if refusals else 1)
        return describe_failure(refusals[0], self._redis) if refusals else None

    async def aclose(self) -> None:
        """Close the connections."""
        await self.breaker.aclose()
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._redis.aclose()

    async def _guarded(self, call: Awaitable[T]) -> T | None:
        """The result of a call, or None where it failed; the breaker and the metrics hear of it."""
        started = asyncio.get_running_loop().time()
        try:
            answer = await _with_timeout(call, self._timeout_s)
        except Exception as error:  # there is no telling what nonsense from the network makes of the client
            self.count(error_kind(error))
            self.breaker.record_failure(started, describe_failure(error, self._redis))
            return None
        self.breaker.record_success()
        return answer

    async def _probe(self) -> bool:
        try:
            # Connecting takes more than one turn of the loop, which a busy process does not make in 50 ms.
            async with asyncio.timeout(self._probe_timeout_s):
                await self._mget(["probe"])
            await _with_timeout(self._mget(["probe"]), self._timeout_s)
        except Exception as error:
            self.count(error_kind(error))
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


async def _with_timeout(call: Awaitable[T], timeout_s: float) -> T:
    """Await for at most so long. Raises TimeoutError.

    When a loop is late, timers come before what has arrived meanwhile. So the time ends in two steps, between which
    the loop reads.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        first = loop.call_later(timeout_s - LAST_READ_S, lambda: limit.reschedule(loop.time() + LAST_READ_S))
        try:
            return await call
        finally:
            first.cancel()
