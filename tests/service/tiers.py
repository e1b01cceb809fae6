"""A cache in this process, watched: what it counts, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Awaitable, Callable
from mmap import mmap
from typing import Any

import numpy as np
import uvloop

from service.cache import Cache, Vector
from service.cache.breaker import FAILURES
from service.cache.tiers import REDIS_TIMEOUT_S
from service.metrics import Metrics
from service.settings import Settings

DIMENSIONS = 8
PREFIX = "sightword:"
PATIENCE_S = 60.0


class Tiers(Cache):
    """A cache that is looked at from outside."""

    def __init__(
        self,
        redis_url: str | None,
        *,
        shared_memory: mmap | None = None,
        redis_timeout_s: float = REDIS_TIMEOUT_S,
        **settings: Any,
    ) -> None:
        self.metrics = Metrics()
        super().__init__(
            Settings.read({"redis_url": redis_url} | settings),
            self.metrics,
            shared_memory=shared_memory,
            redis_timeout_s=redis_timeout_s,
        )

    def count(self, tier: str, outcome: str) -> float:
        return self.sample("sightword_cache_lookups_total", tier=tier, outcome=outcome)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def errors(self, kind: str) -> float:
        return self.sample("sightword_redis_errors_total", kind=kind)

    def is_up(self) -> bool:
        return self.sample("sightword_redis_up") == 1

    async def written(self) -> None:
        await until(lambda: self.idle)


def patient(redis_url: str, **settings: Any) -> Tiers:
    """A machine that is busy with other things must not turn a hit into a miss."""
    return Tiers(redis_url, redis_timeout_s=PATIENCE_S, **settings)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """On a loop of its own, which must not have to report anything that nobody looked after."""
    complaints: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await scenario()
        gc.collect()

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop of the service
            runner.run(watched())
    assert complaints == [], complaints
    assert [str(each.message) for each in warned if "never awaited" in str(each.message)] == []


async def until(met: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


def key(number: int, digest: str = "d1") -> str:
    return f"{digest}:image:{number:064x}"


def vector(number: float) -> Vector:
    return np.full(DIMENSIONS, number, np.float32)


async def stored(cache: Cache, *numbers: int) -> None:
    """In Redis, and in the memory of `cache`."""
    for number in numbers:
        cache.put(key(number), vector(number))
    await cache.aclose()


def numbers(vectors: list[Vector | None]) -> list[float | None]:
    for each in vectors:
        assert each is None or (each.shape == (DIMENSIONS,) and len(set(each.tolist())) == 1)
    return [None if each is None else float(each[0]) for each in vectors]


async def expect_found(cache: Tiers) -> None:
    """What is put is in Redis shortly after; a busy machine may need more than one try."""
    ends = time.monotonic() + PATIENCE_S
    found: list[float | None] = []
    while found != [1]:
        assert time.monotonic() < ends
        cache.put(key(1), vector(1))
        await cache.written()
        found = numbers(await cache.get([key(1)], DIMENSIONS))


async def expect_given_up(cache: Tiers, kind: str) -> None:
    """A few lookups fail, as misses; from then on Redis is not asked."""
    for _ in range(10 * FAILURES):
        if cache.is_up():
            assert await cache.get([key(1), key(2)], DIMENSIONS) == [None, None]
    assert not cache.is_up()
    assert cache.errors(kind) > 0
    failed = cache.count("redis", "error")
    assert failed >= FAILURES
    for _ in range(50):
        assert await cache.get([key(1)], DIMENSIONS) == [None]
    assert cache.count("redis", "skipped") == 50
    assert cache.count("redis", "error") == failed
