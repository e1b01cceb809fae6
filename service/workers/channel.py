"""Questions and answers between two processes over a socket pair, in both directions at once.

A frame is four bytes of length and so much JSON. Nothing is ever half written, however a wait for an answer ends: a
frame goes into the transport's buffer as a whole, and how much may lie there is bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from service.errors import ERROR_KINDS, ApiError, internal_error

Handlers = Mapping[str, Callable[[Any], Awaitable[Any]]]
MAX_FRAME_BYTES = 8 * 2**20  # all series of a worker take some 200 kB
MAX_QUESTIONS = 32  # that wait for an answer, and of the other side that are worked on
_LENGTH_BYTES = 4
log = logging.getLogger(__name__)


class ChannelError(Exception):
    """The other side is gone, or did not answer in time."""


class Channel:
    """One end. `handlers` answer the other side's questions by name: an argument of JSON in, a result of JSON out.

    Answers are only read, and questions only written, while `serve` runs.
    """

    def __init__(self, end: socket.socket, handlers: Handlers) -> None:
        """`end` is one of a `socket.socketpair()`; from now on it belongs to the channel."""
        self._socket, self._handlers = end, handlers
        self._writer: asyncio.StreamWriter | None = None
        self._opened = asyncio.Event()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.closed = False

    async def serve(self) -> None:
        """Read until one side closes. What the other side has asked goes on, though nobody hears the answer."""
        try:
            if not self.closed:
                reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
                self._opened.set()
                await self._read(reader)
        finally:
            self.close()

    async def ask(self, what: str, argument: Any = None, timeout_s: float = 10.0) -> Any:
        """The answer to a question. Raises the other side's ApiError, ChannelError where it gives none in `timeout_s`.

        What does not answer in time may still do what it was asked.
        """
        number = next(self._numbers)
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
                self._write_question({"number": number, "what": what, "argument": argument})
                self._waiting[number] = asyncio.get_running_loop().create_future()
                return await self._waiting[number]
        except TimeoutError:
            raise ChannelError(f"no answer to {what} within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """End it for both sides. Who waits for an answer gets ChannelError."""
        self.closed = True
        self._opened.set()  # for who waits to write
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelError("the other side is gone"))

    def _write_question(self, question: Mapping[str, Any]) -> None:
        if self.closed or self._writer is None:
            raise ChannelError("the other side is gone")
        if len(self._waiting) >= MAX_QUESTIONS or self._writer.transport.get_write_buffer_size() > MAX_FRAME_BYTES:
            raise ChannelError("the other side reads nothing any more, or too much is asked at once")
        self._writer.write(_encode(question))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):  # the other side has ended
            while not self.closed:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                if length > MAX_FRAME_BYTES:
                    log.error("a frame of %d bytes between processes; at most %d are read", length, MAX_FRAME_BYTES)
                    return
                try:
                    self._receive(orjson.loads(await reader.readexactly(length)))
                except (ValueError, TypeError, KeyError) as error:
                    log.error("a frame between processes is not what it should be: %r", error)
                    return

    def _receive(self, message: dict[str, Any]) -> None:
        number = message["number"]
        if "what" in message:
            if len(self._answering) >= MAX_QUESTIONS:
                busy = ApiError("unavailable", "Too much is asked of this process at once; try again shortly.")
                self._write_answer({"number": number, "error": _error(busy)})
                return
            task = asyncio.get_running_loop().create_task(self._answer(number, message["what"], message["argument"]))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._waiting.get(number)
        if future is None or future.done():  # nobody waits any more
            return
        if "error" in message:
            future.set_exception(_api_error(**message["error"]))
        else:
            future.set_result(message["result"])

    async def _answer(self, number: int, what: str, argument: Any) -> None:
        try:
            handler = self._handlers[what]
            self._write_answer({"number": number, "result": await handler(argument)})
        except ApiError as error:
            self._write_answer({"number": number, "error": _error(error)})
        except Exception:
            log.exception("the question %s of another process was not answered", what)
            self._write_answer({"number": number, "error": _error(internal_error())})
        if self._writer is not None:
            with suppress(OSError):
                await self._writer.drain()  # it counts as worked on until it is read

    def _write_answer(self, answer: Mapping[str, Any]) -> None:
        if not self.closed and self._writer is not None:
            self._writer.write(_encode(answer))


def _encode(message: Mapping[str, Any]) -> bytes:
    data = orjson.dumps(message)
    if len(data) > MAX_FRAME_BYTES:
        raise ChannelError(f"a message of {len(data)} bytes; at most {MAX_FRAME_BYTES} fit")
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _error(error: ApiError) -> dict[str, str | None]:
    return {"code": error.code, "message": error.message, "param": error.param}


def _api_error(code: str, message: str, param: str | None) -> ApiError:
    return ApiError(code, message, param) if code in ERROR_KINDS else internal_error()
