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
from service.cache.pipeline import Pipeline
from service.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")
CLOSE_S = 0.5


class ProtocolError(Exception):
    """An answer that Redis would not give."""


class RedisClient:
    """Reads and writes values under keys that all begin with `prefix`, on a connection each. For the event loop only.

    `timeout_s` bounds a call that a request waits for, `probe_timeout_s` the first call and those of the breaker.
    """

    def __init__(
        self, redis: Redis, prefix: str, metrics: Metrics, *, timeout_s: float, probe_timeout_s: float
    ) -> None:
        self._redis, self._prefix = redis, prefix
        self._reads, self._writes = Pipeline(redis.connection_pool), Pipeline(redis.connection_pool)
        self._timeout_s, self._probe_timeout_s = timeout_s, probe_timeout_s
        self._errors = {kind: metrics.redis_errors.labels(kind) for kind in KINDS}
        self._writable = metrics.redis_writable
        self.breaker = CircuitBreaker(self._probe, metrics.redis_up)

    async def check(self) -> bool:
        """Try a read and a write that stores nothing, and log the outcome; returns whether Redis can be read."""
        at = address(self._redis)
        try:
            await self._mget(["probe"], self._probe_timeout_s)
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
            # Of a key that there is not: all is checked that may refuse a write, and nothing is written.
            probe = ("SET", self._prefix + "probe", b"", "XX", "PX", 1)
            [answer] = await self._writes.execute([probe], self._probe_timeout_s)
            if isinstance(answer, Exception):
                raise answer
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
        return await self._guarded(self._mget(keys, self._timeout_s))

    async def write(self, values: Sequence[tuple[str, bytes]], ttl_s: int) -> list[object] | None:
        """SET all pairs in one pipeline: for each the reply, an exception if refused. None if the call failed."""
        prefix = self._prefix
        commands = [("SET", prefix + key, value, "EX", ttl_s) for key, value in values]
        return await self._guarded(self._writes.execute(commands, self._timeout_s))

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
                await self._reads.aclose()
                await self._writes.aclose()

    async def _guarded(self, call: Awaitable[T]) -> T | None:
        """The result of a call, or None where it failed; the breaker and the metrics hear of it."""
        started = asyncio.get_running_loop().time()
        try:
            answer = await call
        except Exception as error:  # there is no telling what nonsense from the network makes of the client
            self.count(error_kind(error))
            self.breaker.record_failure(started, describe_failure(error, self._redis))
            return None
        self.breaker.record_success()
        return answer

    async def _probe(self) -> bool:
        try:
            # Connecting takes more than one turn of the loop, which a busy process does not make in 50 ms.
            for timeout_s in (self._probe_timeout_s, self._timeout_s):
                await self._mget(["probe"], timeout_s)
        except Exception as error:
            self.count(error_kind(error))
            return False
        return True

    async def _mget(self, keys: Sequence[str], timeout_s: float) -> list[object]:
        prefix = self._prefix
        [answer] = await self._reads.execute([("MGET", *[prefix + key for key in keys])], timeout_s)
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, list) or len(answer) != len(keys):
            raise ProtocolError
        return answer
