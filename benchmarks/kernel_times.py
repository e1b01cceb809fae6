"""A client whose answers are timed by the kernel, so that a load generator's own delays are none of the service's.

On a machine that is full, a generator reads an answer when it gets a core again, and what it "sends" in one turn of an
event loop may leave at the end of that turn. Here a request is timed as it is handed to the kernel, and its answer by
when its last segment reached the socket (SO_TIMESTAMPNS), whenever it is read. Linux only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import httptools

from benchmarks.client import NO_ANSWER, Answer, Client

SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
READ_BYTES = 256 * 1024


class TimedConnection:
    """One connection, of the same use as the client's own; answers are kept without headers and bodies."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._loop = connected, asyncio.get_running_loop()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.answer: asyncio.Future[Answer] | None = None
        self.open = True
        self._sent, self._sent_ns, self._arrived_ns = 0.0, 0, 0
        self._left = memoryview(b"")  # of the request
        self._parser = httptools.HttpResponseParser(self)
        self._loop.add_reader(connected, self._read)

    def send(self, data: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future never raises."""
        self._parser = httptools.HttpResponseParser(self)
        self.answer = self._loop.create_future()
        self._left = memoryview(data)
        self._sent, self._sent_ns = time.perf_counter(), time.time_ns()
        self._write()
        return self.answer

    def _write(self) -> None:
        try:
            self._left = self._left[self._socket.send(self._left) :]
        except BlockingIOError:
            pass
        except OSError:
            return self.close()
        if self._left:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)
        return None

    def _read(self) -> None:
        try:
            data, times, _, _ = self._socket.recvmsg(READ_BYTES, 64)
            if times:
                seconds, nanoseconds = _TIMESPEC.unpack(times[0][2])
                self._arrived_ns = seconds * 1_000_000_000 + nanoseconds
            if data:
                return self._parser.feed_data(data)
        except BlockingIOError:
            return None
        except (OSError, httptools.HttpParserError):
            pass
        return self.close()

    def on_message_complete(self) -> None:
        """The parser has read an answer."""
        seconds = (self._arrived_ns - self._sent_ns) / 1e9
        self._finish(Answer(self._parser.get_status_code(), self._sent, seconds))
        if not self._parser.should_keep_alive():
            self.close()

    def _finish(self, answer: Answer) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(answer)

    def close(self) -> None:
        """Hang up."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._finish(Answer(NO_ANSWER, self._sent, time.perf_counter() - self._sent))


class KernelTimedClient(Client):
    """`Client` with such connections. `Answer.seconds` is what the service took, `Answer.sent` is as ever."""

    async def _connect(self) -> TimedConnection:
        connecting = socket.socket()
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(connecting, (self.host, self.port))
        except BaseException:
            connecting.close()
            raise
        return TimedConnection(connecting)
