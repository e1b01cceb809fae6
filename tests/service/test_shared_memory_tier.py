"""The cache tier that processes share: what one stores all find, and whatever tears a record, no vector is wrong."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service import shared_memory
from service.cache.memory_tier import MemoryTier
from service.cache.shared_memory_tier import LEAST_BYTES, SharedMemoryTier
from tests.service import shared_memory_hammer
from tests.service.tiers import DIMENSIONS, Tiers, key, numbers, run, vector


@contextmanager
def mapping(size: int) -> Iterator[int]:
    descriptor = shared_memory.create("test", size)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def tier_of(descriptor: int, ttl_s: float = 3600, timer: Callable[[], float] = time.monotonic) -> SharedMemoryTier:
    return SharedMemoryTier(mmap.mmap(descriptor, 0), ttl_s, timer)


@pytest.fixture
def descriptor() -> Iterator[int]:
    with mapping(2**20) as descriptor:
        yield descriptor


def test_what_one_process_stores_another_finds(descriptor: int) -> None:
    stored = "import sys; from tests.service.test_shared_memory_tier import key, tier_of, vector\n"
    stored += "tier_of(int(sys.argv[1])).put(key(1), vector(1))"
    subprocess.run([sys.executable, "-c", stored, str(descriptor)], pass_fds=[descriptor], check=True, timeout=60)
    found = tier_of(descriptor).get(key(1))
    assert numbers([found]) == [1]
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5


def test_nothing_is_found_under_another_key(descriptor: int) -> None:
    tier = tier_of(descriptor)
    tier.put(key(1), vector(1))
    assert tier.get(key(1, "d2")) is tier.get(key(2)) is tier.get(key(1).replace("image", "text")) is None


def test_vectors_of_any_width_lie_side_by_side(descriptor: int) -> None:
    tier = tier_of(descriptor)
    made = {key(width): np.arange(width, dtype=np.float32) for width in (1, 8, 255, 512, 768, 64 * 512)}
    for name, each in made.items():
        tier.put(name, each)
    for name, each in made.items():
        np.testing.assert_array_equal(tier.get(name), each)


@pytest.mark.parametrize("size", [1, LEAST_BYTES - 1])
def test_memory_too_small_to_share_is_not_used(size: int) -> None:
    async def scenario() -> None:
        with mapping(size) as descriptor, mmap.mmap(descriptor, 0) as memory:
            cache = Tiers(None, shared_memory=memory, cache_bytes=size)
            cache.put(key(1), vector(1))
            assert bytes(memory) == bytes(size)
            assert numbers(await cache.get([key(1)], DIMENSIONS)) == [1 if size > 640 + 4 * DIMENSIONS else None]

    run(scenario)


@pytest.mark.parametrize("size", [LEAST_BYTES, 5001, 2**16 + 7, 2**23 - 1, 2**26 + 9])
def test_memory_of_any_size_is_used(size: int) -> None:
    with mapping(size) as descriptor:
        tier = tier_of(descriptor)
        for number in range(3):
            tier.put(key(number), vector(number))
        assert numbers([tier.get(key(number)) for number in range(3)]) == [0, 1, 2]


def test_a_vector_too_long_is_left_out() -> None:
    with mapping(LEAST_BYTES) as descriptor:
        tier = tier_of(descriptor)
        tier.put(key(1), vector(1))
        tier.put(key(2), np.zeros(LEAST_BYTES // 4, np.float32))
        assert tier.get(key(2)) is None
        assert numbers([tier.get(key(1))]) == [1]


def test_what_is_too_old_is_gone(descriptor: int) -> None:
    now = 0.0
    tier = tier_of(descriptor, 10, timer=lambda: now)
    tier.put(key(1), vector(1))
    now = 9.0
    assert tier.get(key(1)) is not None
    now = 11.0
    assert tier.get(key(1)) is None
    tier.put(key(1), vector(2))
    assert numbers([tier.get(key(1))]) == [2]


def test_it_is_bounded_and_what_is_asked_for_stays(descriptor: int) -> None:
    tier = tier_of(descriptor)
    wide = np.zeros(512, np.float32)
    for number in range(3000):
        tier.put(key(number), wide)
        assert tier.get(key(0)) is not None
        assert 0 < tier.held_bytes() <= 2**20
    kept = [number for number in range(1, 3000) if tier.get(key(number)) is not None]
    assert len(kept) > 400  # of the 490 that fit
    assert kept[0] > 2400
    assert os.fstat(descriptor).st_size == 2**20


def test_no_process_can_change_its_size(descriptor: int) -> None:
    for size in (0, 2**21):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_as_many_are_hit_as_with_the_least_recently_used_first_out(share: float) -> None:
    """Of a stream in which few are asked for often and most seldom (Zipf), with room for that share of all."""
    keys, width = 4000, 512
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, keys + 1)
    stream = rng.permutation(keys)[rng.choice(keys, 30_000, p=weights / weights.sum())]
    size = int(share * keys * 4 * width)
    with mapping(size) as descriptor:
        shared, private = _hits(tier_of(descriptor), stream), _hits(MemoryTier(size, 3600), stream)
    assert shared >= 0.95 * private


def _hits(tier: SharedMemoryTier | MemoryTier, stream: np.ndarray) -> int:
    wide, hits = np.zeros(512, np.float32), 0
    for number in stream.tolist():
        if tier.get(key(number)) is not None:
            hits += 1
        else:
            tier.put(key(number), wide)
    return hits


SPOILT = st.lists(
    st.tuples(st.integers(0, 2**14 - 1), st.one_of(st.binary(min_size=1, max_size=64), st.just(b"\xff" * 200))),
    min_size=1,
    max_size=30,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(spoilt=SPOILT)
def test_whatever_is_written_over_it_no_vector_is_wrong(spoilt: list[tuple[int, bytes]]) -> None:
    with mapping(2**14) as descriptor:
        tier = tier_of(descriptor)
        raw = mmap.mmap(descriptor, 2**14)
        for start, data in spoilt:
            for number in range(20):
                tier.put(key(number), vector(number))
            raw[start : start + len(data)] = data[: 2**14 - start]
            for number in range(20):
                assert numbers([tier.get(key(number))]) in ([number], [None])
        tier.put(key(99), vector(99))  # and it goes on working
        assert 0 <= tier.held_bytes() <= 2**14


def test_each_bit_of_a_record_counts() -> None:
    with mapping(LEAST_BYTES) as descriptor:
        tier = tier_of(descriptor)
        tier.put(key(1), vector(1))
        raw = mmap.mmap(descriptor, LEAST_BYTES)
        before = raw[:]
        record = before.index(vector(1).tobytes()) - 48
        for bit in range(8 * (48 + vector(1).nbytes)):
            raw[record + bit // 8] ^= 1 << bit % 8
            assert tier.get(key(1)) is None, f"bit {bit}"
            raw[:] = before
        assert numbers([tier.get(key(1))]) == [1]


def test_processes_that_are_killed_in_the_middle_of_a_write_spoil_nothing() -> None:
    command = [sys.executable, "-m", shared_memory_hammer.__name__, "60"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    hits, misses, wrong, kept, spoilt = map(int, ended.stdout.split())
    assert (wrong, spoilt) == (0, 0)
    assert hits > 1000
    assert misses > 1000
    assert kept > 10


def test_two_services_in_one_mapping_find_what_the_other_computed(descriptor: int) -> None:
    async def scenario() -> None:
        one, other = (Tiers(None, shared_memory=mmap.mmap(descriptor, 0)) for _ in range(2))
        one.put(key(1), vector(1))
        assert numbers(await other.get([key(1), key(2), key(1)], DIMENSIONS)) == [1, None, 1]
        assert (other.count("memory", "hit"), other.count("memory", "miss")) == (2, 1)
        assert one.sample("sightword_cache_bytes") == other.sample("sightword_cache_bytes") > 0

    run(scenario)
