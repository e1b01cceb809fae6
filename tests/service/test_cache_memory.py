"""The tier in this process: its bounds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from service.cache.memory_tier import MemoryTier
from tests.service.tiers import DIMENSIONS, Tiers, key, numbers, run, vector


def test_memory_is_bounded_by_bytes_and_the_least_used_leave() -> None:
    async def scenario() -> None:
        cache = Tiers(None, cache_bytes=100_000)
        for number in range(1000):
            cache.put(key(number), vector(number))
            assert numbers(await cache.get([key(0)], DIMENSIONS)) == [0]
            assert 0 < cache.sample("sightword_cache_bytes") <= 100_000
        left = numbers(await cache.get([key(number) for number in range(1000)], DIMENSIONS))
        kept = [number for number in left if number is not None]
        assert kept == [0, *range(1000 - len(kept) + 1, 1000)]
        assert len(kept) > 100
        assert cache.count("redis", "skipped") == 0

    run(scenario)


@pytest.mark.parametrize("most_bytes", [0, 100])
def test_a_memory_too_small_for_one_vector_holds_none(most_bytes: int) -> None:
    memory = MemoryTier(most_bytes, 10)
    memory.put(key(1), vector(1))
    assert memory.get(key(1)) is None


def test_what_is_too_old_is_gone() -> None:
    now = 0.0
    memory = MemoryTier(100_000, 10, timer=lambda: now)
    memory.put(key(1), vector(1))
    now = 9.0
    assert memory.get(key(1)) is not None
    now = 11.0
    assert memory.get(key(1)) is None
    memory.put(key(2), vector(2))
    assert memory.held_bytes() < 2 * (4 * DIMENSIONS + 640)  # the old one makes room


def test_the_bytes_counted_are_the_bytes_taken() -> None:
    tracemalloc.start()
    try:
        memory = MemoryTier(2**30, 10)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5000):
            memory.put(key(number, "d" * 64), np.array(np.zeros(512), np.float32))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 < taken / memory.held_bytes() <= 1.05
