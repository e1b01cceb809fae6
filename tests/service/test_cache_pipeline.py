"""Many requests share one connection to Redis: each gets what it asked for, and none waits in another's place."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.service.redis_or_skip import redis_server
from tests.service.test_cache_peers import peer
from tests.service.tiers import DIMENSIONS, Tiers, key, numbers, patient, run, stored

MISS = b"*1\r\n$-1\r\n"


def test_each_of_many_at_once_gets_its_own_and_all_share_a_connection(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:

        def connections() -> int:
            with server.client() as client:
                return int(client.info("stats")["total_connections_received"])

        async def scenario() -> None:
            await stored(patient(server.url), *range(100))
            cache = patient(server.url, cache_bytes=0)
            before = connections()
            lookups = [
                asyncio.create_task(cache.get([key(number), key(-1), key(99 - number)], DIMENSIONS))
                for number in range(100)
            ]
            await asyncio.sleep(0)
            for given_up in lookups[3::7]:
                given_up.cancel()
            found = await asyncio.gather(*lookups, return_exceptions=True)
            for number, vectors in enumerate(found):
                if number % 7 != 3:
                    assert not isinstance(vectors, BaseException)
                    assert numbers(vectors) == [number, None, 99 - number]
                else:
                    assert isinstance(vectors, asyncio.CancelledError)
            assert connections() - before <= 1 + 1  # the other one asks for the number
            assert cache.is_up()
            await cache.aclose()

        run(scenario)


def test_what_gathers_while_one_is_away_goes_out_in_one_write_without_what_was_given_up() -> None:
    received: list[int] = []
    release = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.append(data.count(b"MGET"))
            await release.wait()
            writer.write(MISS * received[-1])

    async def scenario() -> None:
        async with peer(behave) as url:
            cache = patient(url)
            lookups = [asyncio.create_task(cache.get([key(number)], DIMENSIONS)) for number in range(11)]
            while not received:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.2)  # in which the others have come to where they wait
            lookups[5].cancel()
            await asyncio.wait([lookups[5]])
            release.set()
            del lookups[5]
            assert await asyncio.gather(*lookups) == [[None]] * 10
            assert received == [1, 9]
            await cache.aclose()

    run(scenario)


def test_a_late_reply_ends_the_connection_and_the_next_lookup_opens_another() -> None:
    opened: list[int] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        while data := await reader.read(65536):
            if len(opened) > 1:  # the first never answers
                writer.write(MISS * data.count(b"MGET"))

    async def scenario() -> None:
        async with peer(behave) as url:
            cache = Tiers(url, redis_timeout_s=0.3)
            late = await asyncio.gather(*(cache.get([key(number)], DIMENSIONS) for number in range(5)))
            assert late == [[None]] * 5
            assert cache.errors("timeout") == 5
            while cache.count("redis", "miss") == 0:
                assert await cache.get([key(9)], DIMENSIONS) == [None]
            assert cache.is_up()
            await cache.aclose()

    run(scenario)


def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    """Else the next request would take it for its own."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(MISS * data.count(b"MGET") + b"*1\r\n$1\r\nx\r\n")

    async def scenario() -> None:
        async with peer(behave) as url:
            cache = patient(url)
            for _ in range(3):
                assert await cache.get([key(1)], DIMENSIONS) == [None]
                await asyncio.sleep(0.05)
            assert cache.count("redis", "invalid") == 0
            await cache.aclose()

    run(scenario)
