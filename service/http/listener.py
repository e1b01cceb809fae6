"""Takes the connections that wait, all of them, in each turn of the event loop.

uvloop takes one a turn. Under load, when a turn is long, new connections would then wait in the kernel for many
seconds, where nothing refuses them and no health check gets past them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import resource
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)
OTHER_FILES = 256  # descriptors for connections about to begin, models, Redis, fetched pictures
PAUSE_S = 0.5  # between looks for new connections while there is no room for them
WARN_EVERY_S = 60.0
BACKLOG = 4096  # more than the kernel keeps
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def _limits() -> tuple[int, int, int]:
    """Connections that are served, those above that are told so, and those taken in a turn; few of few descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 4096, 64, 256
    spare = min(64, soft // 6)
    return max(min(64, soft // 4), min(4096, soft - OTHER_FILES - spare)), spare, max(1, min(256, soft // 8))


MAX_CONNECTIONS, SPARE_CONNECTIONS, A_TURN = _limits()


class Listener:
    """Takes over the sockets of a server that listens; what uvicorn asks of a server."""

    def __init__(self, server: asyncio.Server, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = [socket.socket(fileno=os.dup(its.fileno())) for its in server.sockets]
        server.close()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned_s = -math.inf
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for listening in self.sockets:
            listening.setblocking(False)
            self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket, most: int = A_TURN) -> None:
        for _ in range(most):
            try:
                connection, _ = listening.accept()
            except OSError as error:  # there is none; or it is gone again; or there is no room for it
                if error.errno in NO_ROOM:
                    self._pause(listening, error)
                return
            task = self._loop.create_task(self._begin(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave new connections in the kernel for a while: to ask again at once would take a whole core."""
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE_S, self._listen, listening)
        if self._loop.time() - self._warned_s > WARN_EVERY_S:
            self._warned_s = self._loop.time()
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning(
                "new connections have to wait: %s. Those there are go on; raise the limit of open files (ulimit -n, "
                "now %d)",
                error.strerror,
                soft,
            )

    async def _begin(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # reset before it began
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection)

    def close(self) -> None:
        """Take what the kernel has accepted already, then listen no more."""
        for listening in self.sockets:
            self._accept(listening, BACKLOG)
            self._loop.remove_reader(listening)
            if (pause := self._pauses.pop(listening, None)) is not None:
                pause.cancel()
            listening.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that are just beginning."""
        if self._tasks:
            await asyncio.wait(self._tasks)
