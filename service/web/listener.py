"""Takes the connections that wait, all of them, in each turn of the event loop.

uvloop takes one a turn. Under load, when a turn is long, new connections would then wait in the kernel for many
seconds, where nothing refuses them and no health check gets past them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable

A_TURN = 256
OTHER_FILES = 256  # descriptors for connections about to begin, models, Redis, fetched pictures
SPARE_CONNECTIONS = 64  # above the limit, to tell of it


def _most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(64, min(4096, soft - OTHER_FILES - SPARE_CONNECTIONS))


MAX_CONNECTIONS = _most_connections()


class Listener:
    """Takes over the sockets of a server that listens; what uvicorn asks of a server."""

    def __init__(self, server: asyncio.Server, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = [socket.socket(fileno=os.dup(its.fileno())) for its in server.sockets]
        server.close()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        for listening in self.sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(A_TURN):
            try:
                connection, _ = listening.accept()
            except OSError:  # there is none; or it is gone again; or there are no descriptors left for now
                return
            task = self._loop.create_task(self._begin(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # reset before it began
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection)

    def close(self) -> None:
        """Take what the kernel has accepted already, then listen no more."""
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            self._accept(listening)
            listening.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that are just beginning."""
        if self._tasks:
            await asyncio.wait(self._tasks)
