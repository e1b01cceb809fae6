"""Pipelining: the commands of all requests share one connection, and while some are away, the next ones gather.

What gathered is sent in one write, which Redis reads in one and answers in one. redis-py takes a connection from its
pool for each command instead, which costs more than all else that a lookup takes (benchmarks/STEPS.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse, ResponseError

from service.errors import without_frames

Command = tuple[str | bytes | int, ...]
LAST_READ_S = 0.005  # of a timeout: time to read what arrived while the loop was busy with other things


@dataclass(slots=True, eq=False)
class _Call:
    """Commands that wait to be sent, or for their replies; the outcome is these, or what ended the connection."""

    commands: Sequence[Command]
    deadline: float  # of the loop's time
    outcome: asyncio.Future[list[object] | Exception]
    replies: list[object] = field(default_factory=list)
    late: bool = False


class Pipeline:
    """One connection, opened when it is first used and again after it has ended. For the event loop only."""

    def __init__(self, pool: ConnectionPool) -> None:
        """`pool` says how to connect; no connection is taken from it."""
        self._pool = pool
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._calls: deque[_Call] = deque()  # those that were sent, then those that were not yet
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None

    async def execute(self, commands: Sequence[Command], timeout_s: float) -> list[object]:
        """For each command its reply; an exception where Redis refused it.

        Raises what ended the connection, and TimeoutError where it takes longer than `timeout_s`. That ends the
        connection, and with it all that waits: a server that is late for one is late for those behind it.
        """
        loop = asyncio.get_running_loop()
        call = _Call(commands, loop.time() + timeout_s, loop.create_future())
        connection = self._connection or await self._connect(timeout_s)
        self._calls.append(call)
        self._set_timer(call.deadline - LAST_READ_S)
        try:
            if not self._sent:
                await self._send(connection)
            outcome = await call.outcome
        finally:
            call.outcome.cancel()  # of one that gave up, the replies are dropped when they come
        if isinstance(outcome, list):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # raised in this frame, it would lead back to it

    async def _send(self, connection: AbstractConnection) -> None:
        """Send all that has gathered, when nothing is away; but for what was given up meanwhile."""
        self._calls = deque(call for call in self._calls if not call.outcome.done())
        self._sent = len(self._calls)
        commands = [pack_command(command) for call in self._calls for command in call.commands]  # type: ignore[arg-type]  # wrong stub
        try:
            await connection.send_packed_command(b"".join(commands), check_health=False)
        except BaseException:  # the client has closed it, and would open it again by itself
            self._abort(ConnectionError("closed while commands were sent"))
            raise

    async def _connect(self, timeout_s: float) -> AbstractConnection:
        async with asyncio.timeout(timeout_s), self._connecting:
            if self._connection is None:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
                try:
                    await connection.connect()
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self._connection = connection
                self._reading = asyncio.get_running_loop().create_task(self._read(connection))
            return self._connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Give each call its replies, until the connection ends."""
        try:
            while True:
                try:
                    reply: object = await connection.read_response()
                except ResponseError as refusal:
                    reply = refusal
                self._take(reply)
                del reply
                if self._calls and not self._sent:
                    await self._send(connection)
        except Exception as error:  # there is no telling what nonsense from the network makes of the client
            self._end(without_frames(error))
        finally:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    def _take(self, reply: object) -> None:
        if not self._sent:
            raise InvalidResponse("a reply to no command")
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) == len(call.commands):
            self._calls.popleft()
            self._sent -= 1
            if not call.outcome.done():
                call.outcome.set_result(call.replies)

    def _set_timer(self, when: float) -> None:
        """Look at the clock at that time of the loop, or before."""
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(when, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        """End the connection if its next reply is late.

        When a loop is late, timers come before what has arrived meanwhile. So the time ends in two steps, between which
        the loop reads.
        """
        self._timer = None
        if not self._calls:
            return
        now, oldest = asyncio.get_running_loop().time(), self._calls[0]
        if oldest.late:
            self._abort(TimeoutError())
            return
        last_read = oldest.deadline - LAST_READ_S
        oldest.late = last_read <= now
        self._set_timer(now + LAST_READ_S if oldest.late else last_read)

    def _abort(self, error: Exception) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._end(error)

    def _end(self, error: Exception) -> None:
        """Let all calls fail, and the next one open another connection."""
        calls, self._calls, self._sent = self._calls, deque(), 0
        self._connection = self._reading = None
        for call in calls:
            if not call.outcome.done():
                call.outcome.set_result(error)

    async def aclose(self) -> None:
        """Close the connection; calls that wait fail."""
        reading = self._reading
        self._abort(ConnectionError("closed"))
        if self._timer is not None:
            self._timer.cancel()
        if reading is not None:
            await asyncio.wait([reading])
