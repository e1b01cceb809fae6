"""Accepts all connections that wait, in each turn of the event loop.

uvloop accepts one a turn, and has no setting for it; `backlog` only says how many may wait. Under load, when a turn is
long, new connections would wait in the kernel for many seconds, where nothing refuses them and no health check gets
past them. A server of the event loop also asks again at once where no descriptor is left, which takes a whole core, and
at its end resets the connections that the kernel has already accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import resource
import socket
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)
PAUSE_S = 0.5  # between looks for new connections while there is no room for them
WARN_EVERY_S = 60.0
MAX_BACKLOG = 4096  # more than the kernel keeps
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts on sockets that listen, and closes them. Has the methods that uvicorn calls on an asyncio.Server."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        accepts_per_turn: int,
    ) -> None:
        self.sockets = sockets
        self._make_protocol, self._accepts_per_turn = make_protocol, accepts_per_turn
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned_s = -math.inf
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for listening in self.sockets:
            listening.setblocking(False)
            self._resume(listening)

    def _resume(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening, self._accepts_per_turn)

    def _accept(self, listening: socket.socket, limit: int) -> None:
        for _ in range(limit):
            try:
                connection, _ = listening.accept()
            except OSError as error:  # there is none; or it is gone again; or there is no room for it
                if error.errno in NO_ROOM:
                    self._pause(listening, error)
                return
            task = self._loop.create_task(self._connect(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave new connections in the kernel for a while."""
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE_S, self._resume, listening)
        if self._loop.time() - self._warned_s > WARN_EVERY_S:
            self._warned_s = self._loop.time()
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning(
                "new connections have to wait: %s. Those there are go on; raise the limit of open files (ulimit -n, "
                "now %d)",
                error.strerror,
                soft,
            )

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # reset before it began
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._make_protocol, connection)

    def close(self) -> None:
        """Accept what waits in the kernel, then listen no more."""
        for listening in self.sockets:
            self._accept(listening, MAX_BACKLOG)
            self._loop.remove_reader(listening)
            if (pause := self._pauses.pop(listening, None)) is not None:
                pause.cancel()
            listening.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that are just beginning."""
        if self._tasks:
            await asyncio.wait(self._tasks)
