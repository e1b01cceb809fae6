"""Accepts all connections that wait, in each turn of the event loop.

uvloop accepts one a turn, and has no setting for it; `backlog` only says how many may wait. Under load, when a turn is
long, new connections would wait in the kernel for many seconds, where nothing refuses them and no health check gets
past them. A server of the event loop also asks again at once where no descriptor is left, which takes a whole core, and
at its end resets the connections that the kernel has already accepted.

Where several worker processes accept on the same sockets, each leaves new connections to those that have fewer, for a
moment: kept-alive connections stay where they are, so that what one process takes too many of lasts.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import resource
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from service.board import Field, Phase, Row

log = logging.getLogger(__name__)
PAUSE_S = 0.5  # between looks for new connections while there is no room for them
WARN_EVERY_S = 60.0
MAX_BACKLOG = 4096  # more than the kernel keeps
# For each connection that a worker has more than another that is ready, it leaves a new one to others for so long, and
YIELD_S = 0.002
MAX_YIELD_S = 0.05  # at most for so long: their event loops may be in a long turn
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Accepts on sockets that listen, and closes them. Has the methods that uvicorn calls on an asyncio.Server."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        accepts_per_turn: int,
        row: Row,
    ) -> None:
        """`row` counts the connections, those of other workers too; `make_protocol`'s take themselves off it."""
        self.sockets, self._row = sockets, row
        self._make_protocol, self._accepts_per_turn = make_protocol, accepts_per_turn
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Future[Any]] = set()  # what connections that are just beginning wait for
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
            others = self._row.ready_others()
            if others and not self._row.get(Field.READY):
                return self._pause(listening, MAX_YIELD_S, self._resume)
            if (excess := self._row.excess(others)) > 0:
                return self._pause(listening, min(MAX_YIELD_S, excess * YIELD_S), self._take_one)
            if not self._take(listening):
                return None
        return None

    def _take_one(self, listening: socket.socket) -> None:
        """Take a connection that none of the others has taken meanwhile."""
        del self._pauses[listening]
        self._take(listening)
        if listening not in self._pauses:
            self._resume(listening)

    def _take(self, listening: socket.socket) -> bool:
        try:
            connection, _ = listening.accept()
        except OSError as error:  # there is none; or it is gone again; or there is no room for it
            if error.errno in NO_ROOM:
                self._wait_for_room(listening, error)
            return False
        self._row.add(Field.CONNECTIONS, 1)
        self._connect(self._make_transport(connection))
        return True

    def _pause(self, listening: socket.socket, seconds: float, go_on: Callable[[socket.socket], None]) -> None:
        """Leave new connections in the kernel for a while."""
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(seconds, go_on, listening)

    def _wait_for_room(self, listening: socket.socket, error: OSError) -> None:
        self._pause(listening, PAUSE_S, self._resume)
        if self._loop.time() - self._warned_s > WARN_EVERY_S:
            self._warned_s = self._loop.time()
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning(
                "new connections have to wait: %s. Those there are go on; raise the limit of open files (ulimit -n, "
                "now %d)",
                error.strerror,
                soft,
            )

    async def _make_transport(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.connect_accepted_socket(self._make_protocol, connection)

    def _connect(self, making: Coroutine[asyncio.Future[Any], None, None], _: object = None) -> None:
        """Go on with it at once, up to where it waits for something, and when that is there.

        A task begins in the loop's next turn, and under load a turn is what a new client waits for.
        """
        try:
            waits_for = making.send(None)
        except StopIteration:
            return
        except OSError:  # reset before it began
            self._row.add(Field.CONNECTIONS, -1)
            return
        self._beginning.add(waits_for)
        waits_for.add_done_callback(self._beginning.discard)
        waits_for.add_done_callback(partial(self._connect, making))

    def close(self) -> None:
        """Accept what waits in the kernel, unless other workers go on accepting; then listen no more."""
        left_to_others = self._row.board.phase is Phase.SERVING and self._row.ready_others()
        for listening in self.sockets:
            for _ in range(0 if left_to_others else MAX_BACKLOG):
                if not self._take(listening):
                    break
            self._loop.remove_reader(listening)
            if (pause := self._pauses.pop(listening, None)) is not None:
                pause.cancel()
            listening.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that are just beginning."""
        if self._beginning:
            await asyncio.wait(self._beginning)
