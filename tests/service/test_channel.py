"""Questions between processes: a real one at the other end, which answers, refuses, hangs, talks nonsense and dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from service.errors import ApiError
from service.workers.channel import MAX_FRAME_BYTES, MAX_QUESTIONS, Channel, ChannelError

PEER = """
import asyncio, socket, sys, uvloop
from service.errors import ApiError
from service.workers.channel import Channel

async def refuse(argument):
    raise ApiError("invalid_bundle", "no such thing", "model")

async def fail(argument):
    raise RuntimeError(argument)

async def hang(argument):
    await asyncio.sleep(600)

async def echo(argument):
    return argument

async def too_much(argument):
    return "x" * argument

async def ask_back(argument):
    return ["asked back", await channel.ask("double", argument)]

async def serve():
    global channel
    handlers = {each.__name__: each for each in (refuse, fail, hang, echo, too_much, ask_back)}
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), handlers)
    await channel.serve()

uvloop.run(serve())
"""
Peer = subprocess.Popen[str]


@asynccontextmanager
async def peer() -> AsyncIterator[tuple[Channel, Peer]]:
    """A channel to a process that answers."""

    async def double(argument: int) -> int:
        return 2 * argument

    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", PEER, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
    channel = Channel(ours, {"double": double})
    serving = asyncio.create_task(channel.serve())
    try:
        yield channel, process
    finally:
        channel.close()
        await asyncio.wait_for(serving, 5)
        await asyncio.to_thread(process.communicate, timeout=20)  # it ends with its channel


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_loop
async def test_questions_cross_and_errors_arrive_as_they_were() -> None:
    async with peer() as (channel, _):
        values: list[Any] = [None, 1, "ö", [1, {"a": []}], "x" * 1_000_000]
        answers = await asyncio.gather(*(channel.ask("echo", value, 20) for value in values))
        assert answers == values
        assert await channel.ask("ask_back", 21) == ["asked back", 42]
        with pytest.raises(ApiError) as refused:
            await channel.ask("refuse")
        assert (refused.value.code, refused.value.message, refused.value.param) == (
            "invalid_bundle", "no such thing", "model",
        )  # fmt: skip
        for question in ("fail", "no such question"):
            with pytest.raises(ApiError, match="try again") as failed:
                await channel.ask(question, "not for clients")
            assert (failed.value.code, "clients" in failed.value.message) == ("internal_error", False)
        with pytest.raises(ApiError, match="try again"):
            await channel.ask("too_much", MAX_FRAME_BYTES)
        with pytest.raises(ChannelError, match="fit"):
            await channel.ask("echo", "x" * MAX_FRAME_BYTES)
        assert await channel.ask("echo", "still there") == "still there"


@in_loop
async def test_one_that_hangs_costs_its_own_question_only() -> None:
    async with peer() as (channel, _):
        await channel.ask("echo", None, 20)
        with pytest.raises(ChannelError, match="no answer to hang within"):
            await channel.ask("hang", None, 0.1)
        assert await channel.ask("echo", 1) == 1
        hanging = [asyncio.create_task(channel.ask("hang", None, 30)) for _ in range(MAX_QUESTIONS)]
        await asyncio.sleep(0)
        with pytest.raises(ChannelError, match="too much"):
            await channel.ask("echo", 1)
        hanging[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as busy:  # there they go on
            await channel.ask("echo", 1)
        assert busy.value.code == "unavailable"
        channel.close()
        ended = await asyncio.gather(*hanging[1:-1], return_exceptions=True)
        assert all(isinstance(each, ChannelError) for each in ended)
        with pytest.raises(ApiError):  # it was one too many for the other side
            await hanging[-1]


@in_loop
async def test_who_waits_hears_of_a_death_at_once() -> None:
    async with peer() as (channel, process):
        await channel.ask("echo", None, 20)
        waiting = asyncio.create_task(channel.ask("hang", None, 50))
        await channel.ask("echo")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ChannelError, match="gone"):
            await asyncio.wait_for(waiting, 5)
        assert channel.closed
        with pytest.raises(ChannelError, match="gone"):
            await channel.ask("echo")


@in_loop
async def test_one_that_reads_nothing_fills_no_memory() -> None:
    async with peer() as (channel, process):
        await channel.ask("echo", None, 20)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            large = "x" * (MAX_FRAME_BYTES - 100)
            with pytest.raises(ChannelError, match="no answer"):
                await channel.ask("echo", large, 0.05)
            with pytest.raises(ChannelError, match="no answer"):
                await channel.ask("echo", large, 0.05)
            with pytest.raises(ChannelError, match="reads nothing"):
                await channel.ask("echo")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        while True:
            with suppress(ChannelError):  # until what was written meanwhile is read
                assert await channel.ask("echo", "whole frames only", 5) == "whole frames only"
                break
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{]", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x10" + orjson.dumps({"number": [1]}).ljust(16),
    ],
)  # fmt: skip
def test_nonsense_ends_the_channel(frame: bytes) -> None:
    async def send() -> None:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        serving = asyncio.create_task(Channel(ours, {}).serve())
        with theirs:
            theirs.sendall(frame)
            await asyncio.wait_for(serving, 5)
            assert theirs.recv(1) == b""

    asyncio.run(send())
