"""The two tiers against a real Redis, driven from this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.redis_server import RedisServer
from service.cache import Cache
from service.cache.redis_tier import QUEUE_ITEMS
from service.cache.value import decode, encode
from service.metrics import Metrics
from service.settings import Settings
from tests.service.redis_or_skip import redis_server
from tests.service.tiers import DIMENSIONS, PREFIX, key, numbers, patient, run, stored, vector


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    with server.client() as client:
        client.flushall()
    return server


KNOWN = st.dictionaries(st.integers(0, 9), st.sampled_from(["memory", "redis", "poisoned"]))
ASKED = st.lists(st.integers(0, 12), max_size=30)


def test_each_key_of_a_list_gets_its_own_vector_or_none(redis: RedisServer) -> None:
    @hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(known=KNOWN, asked=ASKED)
    def check(known: dict[int, str], asked: list[int]) -> None:
        with redis.client() as client:
            client.flushall()

        async def scenario() -> None:
            await stored(patient(redis.url), *(number for number, where in known.items() if where == "redis"))
            with redis.client() as client:
                for number, where in known.items():
                    if where == "poisoned":
                        client.set(PREFIX + key(number), encode(key(number + 1), vector(number + 1)))
            cache = patient(redis.url)
            for number, where in known.items():
                if where == "memory":
                    cache.put(key(number), vector(number))
            for _ in range(2):  # the second time out of memory
                found = await cache.get([key(number) for number in asked], DIMENSIONS)
                want = [number if known.get(number) in ("memory", "redis") else None for number in asked]
                assert numbers(found) == want
            await cache.aclose()

        asyncio.run(scenario())

    check()


def test_what_memory_has_not_is_asked_of_redis_in_one_mget(redis: RedisServer) -> None:
    async def scenario() -> None:
        await stored(patient(redis.url), *range(40))
        cache = patient(redis.url)
        cache.put(key(100), vector(100))
        before = redis.calls("mget")
        asked = [100, *range(40), 200, 7, 7]
        assert numbers(await cache.get([key(n) for n in asked], DIMENSIONS)) == [100, *range(40), None, 7, 7]
        assert redis.calls("mget") - before == 1
        assert numbers(await cache.get([key(n) for n in range(40)], DIMENSIONS)) == list(range(40))
        assert redis.calls("mget") - before == 1  # all of it came out of memory
        assert redis.calls("get") == 0
        assert (cache.count("memory", "hit"), cache.count("memory", "miss")) == (1 + 40, 43)
        assert (cache.count("redis", "hit"), cache.count("redis", "miss")) == (40, 1)
        await cache.aclose()

    run(scenario)


def test_without_memory_redis_alone_serves(redis: RedisServer) -> None:
    async def scenario() -> None:
        await stored(patient(redis.url, cache_bytes=0), 1)
        cache = patient(redis.url, cache_bytes=0)
        assert numbers(await cache.get([key(1), key(1), key(2)], DIMENSIONS)) == [1, 1, None]
        assert cache.sample("sightword_cache_bytes") == 0
        await cache.aclose()

    run(scenario)


def test_another_bundle_never_sees_the_vectors_of_this_one(redis: RedisServer) -> None:
    async def scenario() -> None:
        await stored(patient(redis.url), 1)
        cache = patient(redis.url)
        assert await cache.get([key(1, "d2"), key(1).replace("image", "text")], DIMENSIONS) == [None, None]
        await cache.aclose()

    run(scenario)


def test_keys_in_redis_have_the_prefix_and_expire(redis: RedisServer) -> None:
    async def scenario() -> None:
        await stored(patient(redis.url, redis_prefix="mine:", cache_ttl_s=1000), 1)
        with redis.client() as client:
            assert client.keys() == [b"mine:" + key(1).encode()]
            assert 900 < client.ttl("mine:" + key(1)) <= 1000

    run(scenario)


GOOD = encode(key(1), vector(1))
POISON: dict[str, bytes] = {
    "empty": b"",
    "cut short": GOOD[:-1],
    "longer": GOOD + b"\0\0\0\0",
    "without a header": vector(1).tobytes(),
    "of a later format": GOOD[:3] + b"\x02" + GOOD[4:],
    "one bit flipped": GOOD[:-3] + bytes([GOOD[-3] ^ 1]) + GOOD[-2:],
    "of another key": encode(key(2), vector(2)),
    "of other dimensions": encode(key(1), np.ones(DIMENSIONS + 1, np.float32)),
    "not a number": encode(key(1), np.array([np.nan] * DIMENSIONS, np.float32)),
    "infinite": encode(key(1), np.array([np.inf] * DIMENSIONS, np.float32)),
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "a megabyte": b"x" * 2**20,
}


@pytest.mark.parametrize("poison", POISON)
def test_an_odd_value_is_a_miss_and_is_written_anew(redis: RedisServer, poison: str) -> None:
    async def scenario() -> None:
        with redis.client() as client:
            client.set(PREFIX + key(1), POISON[poison])
        await stored(patient(redis.url), 3)
        cache = patient(redis.url)
        assert numbers(await cache.get([key(3), key(1)], DIMENSIONS)) == [3, None]
        assert (cache.count("redis", "invalid"), cache.count("redis", "hit")) == (1, 1)
        await stored(cache, 1)
        again = patient(redis.url)
        assert numbers(await again.get([key(1)], DIMENSIONS)) == [1]
        await again.aclose()

    run(scenario)


def test_a_list_under_a_key_is_a_miss(redis: RedisServer) -> None:
    async def scenario() -> None:
        with redis.client() as client:
            client.lpush(PREFIX + key(1), "a", "b")
        cache = patient(redis.url)
        assert await cache.get([key(1)], DIMENSIONS) == [None]
        await stored(cache, 1)
        with redis.client() as client:
            assert decode(key(1), client.get(PREFIX + key(1)), DIMENSIONS) is not None

    run(scenario)


@given(value=st.binary(max_size=200))
def test_nothing_but_what_encode_wrote_is_ever_read(value: bytes) -> None:
    assert decode(key(1), value, DIMENSIONS) is None


def test_a_vector_is_copied_and_stays_what_it_was(redis: RedisServer) -> None:
    async def scenario() -> None:
        cache = patient(redis.url)
        batch = np.ones((4, DIMENSIONS), np.float32)
        cache.put(key(1), batch[2])
        batch[:] = 7
        [found] = await cache.get([key(1)], DIMENSIONS)
        assert found is not None
        assert numbers([found]) == [1]
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 5
        await cache.aclose()
        with redis.client() as client:
            kept = decode(key(1), client.get(PREFIX + key(1)), DIMENSIONS)
        assert kept is not None
        assert numbers([kept]) == [1]

    run(scenario)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_no_vector_is_not_kept(redis: RedisServer, bad: float) -> None:
    async def scenario() -> None:
        cache = patient(redis.url)
        spoilt = vector(1)
        spoilt[3] = bad
        cache.put(key(1), spoilt)
        assert await cache.get([key(1)], DIMENSIONS) == [None]
        await cache.aclose()
        with redis.client() as client:
            assert client.dbsize() == 0

    run(scenario)


def test_closing_stores_what_is_queued_and_a_full_queue_drops(redis: RedisServer) -> None:
    async def scenario() -> None:
        cache = patient(redis.url)
        for number in range(QUEUE_ITEMS + 100):
            cache.put(key(number), vector(number))
        assert cache.sample("sightword_redis_errors_total", kind="dropped") == 100
        await cache.aclose()
        cache.put(key(1_000_000), vector(1))  # too late, and no harm

    run(scenario)
    with redis.client() as client:
        assert client.dbsize() > 0


def test_a_bad_url_is_named_without_showing_it() -> None:
    for url in ("redis://:geheim/x@host:1", "http://geheim", "redis://h?geheim=1", "rediss://h?ssl_cert_reqs=geheim"):
        with pytest.raises(ValueError, match="SIGHTWORD_REDIS_URL") as raised:
            Cache(Settings.read({"redis_url": url}), Metrics())
        assert "geheim" not in str(raised.value)
