"""Servers that are no Redis, or none that can be used: a lookup is a miss then, never an error and never long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.service.tiers import DIMENSIONS, PATIENCE_S, Tiers, expect_given_up, key, patient, run

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(behave: Peer) -> AsyncIterator[str]:
    """The URL of a server that behaves like this on each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await behave(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def answering(answer: bytes) -> Peer:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
            await writer.drain()

    return behave


async def answering_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"*2\r\n$1000\r\nhalf of")
    await writer.drain()


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"*2\r\n$1000000000\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(PATIENCE_S)


PEERS: dict[str, tuple[Peer, str]] = {
    "a web server": (answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), "protocol"),
    "noise": (answering(b"\x00\xff\xfe\x16\x03" * 100), "protocol"),
    "a number": (answering(b":1\r\n"), "protocol"),
    "a text": (answering(b"+OK\r\n"), "protocol"),
    "too short a list": (answering(b"*1\r\n$-1\r\n"), "protocol"),
    "too deep a list": (answering(b"*1\r\n" * 5000), "protocol"),
    "an error that is no text": (answering(b"-\xff\xfe\xfd\r\n"), "refused"),
    "another server's keys": (answering(b"-MOVED 1 127.0.0.1:1\r\n"), "refused"),
    "still loading": (answering(b"-LOADING Redis is loading the dataset in memory\r\n"), "refused"),
    "closed in the middle of an answer": (answering_half, "connection"),
    "no end of an answer": (flooding, "timeout"),
    "silent": (silent, "timeout"),
}


@pytest.mark.parametrize("name", PEERS)
def test_a_server_that_is_no_redis(name: str) -> None:
    behave, kind = PEERS[name]
    cache_of = Tiers if kind == "timeout" else patient  # a busy machine would make a timeout of any of them

    async def scenario() -> None:
        async with peer(behave) as url:
            cache = cache_of(url)
            await expect_given_up(cache, kind)
            await cache.aclose()

    run(scenario)


def test_answers_of_the_wrong_kind_inside_a_good_list_are_misses() -> None:
    async def scenario() -> None:
        async with peer(answering(b"*3\r\n:5\r\n-ERR what\r\n*1\r\n$1\r\nx\r\n")) as url:
            cache = patient(url)
            assert await cache.get([key(1), key(2), key(3)], DIMENSIONS) == [None] * 3
            assert cache.count("redis", "invalid") == 3
            assert cache.is_up()
            await cache.aclose()

    run(scenario)
