"""How soon what a new client has sent is read."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import uvloop

from service.board import Board, Field
from service.http.listener import Listener


def test_a_new_connection_is_read_in_the_turn_after_the_next() -> None:
    """Under load a turn of the event loop takes milliseconds, and what is refused waits for each of them."""

    async def scenario() -> int:
        loop, row = asyncio.get_running_loop(), Board.of_one().row(0)
        turns = 0
        read: asyncio.Future[int] = loop.create_future()

        class Reader(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                read.set_result(turns)

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not read.done():
                loop.call_soon(turn)

        with ExitStack() as stack:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            client = stack.enter_context(socket.create_connection(listening.getsockname()))
            client.sendall(b"a request")
            listener = Listener([listening], Reader, 16, row)
            turn()
            took = await read
            assert row.get(Field.CONNECTIONS) == 1
            listener.close()
            await listener.wait_closed()
        return took

    assert uvloop.run(asyncio.wait_for(scenario(), 20)) <= 2


def test_one_that_cannot_begin_is_not_counted() -> None:
    async def scenario() -> None:
        row = Board.of_one().row(0)

        def no_protocol() -> asyncio.Protocol:
            raise OSError("reset")

        with ExitStack() as stack:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            client = stack.enter_context(socket.create_connection(listening.getsockname()))
            listener = Listener([listening], no_protocol, 16, row)
            assert await asyncio.to_thread(client.recv, 1) == b""
            assert row.get(Field.CONNECTIONS) == 0
            listener.close()
            await listener.wait_closed()

    uvloop.run(asyncio.wait_for(scenario(), 20))
