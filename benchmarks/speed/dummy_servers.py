"""Servers that do nothing: what remains is the cost of the load generator, or that of a web framework.

    python -m benchmarks.speed.dummy_servers trivial  # HTTP only: parses a request and answers: the generator's cost
    python -m benchmarks.speed.dummy_servers empty    # a FastAPI route that reads the body: the floor of a cache hit

Each prints its port.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import cast

import httptools
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response

ANSWER = b'{"data":[]}'
TRIVIAL = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


class _Trivial(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(TRIVIAL)


async def _serve_trivial(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(_Trivial, sock=listening)
    await server.serve_forever()


async def _empty_route(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


def _serve_empty(listening: socket.socket) -> None:
    app = FastAPI()
    app.post("/embed")(_empty_route)
    # As the service runs uvicorn, but for its own protocol.
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="off", ws="none", log_config=None, access_log=False,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    """Serve the one that is named, until ended."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    if sys.argv[1] == "empty":
        _serve_empty(listening)
    else:
        uvloop.run(_serve_trivial(listening))


if __name__ == "__main__":
    main()
