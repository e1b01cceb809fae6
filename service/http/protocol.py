"""One connection: uvicorn's HTTP/1.1, and what keeps a client from holding it, or filling the memory, for ever.

The application has its own deadline for a request's body and its answer. Here are those for what it never sees: a head
that does not end, a connection without a request, an answer that nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.cycle import Exchange
from service.http.listener import MAX_CONNECTIONS, SPARE_CONNECTIONS
from service.http.refusals import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    NOT_HTTP,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_PIPELINED,
    Refusal,
)
from service.http.timer import Patience
from service.logs import Sampler

log = logging.getLogger(__name__)
HEAD_S = 10.0  # for a whole head, from its first byte or from the opening of the connection
LAST_REQUEST_S = 0.5  # after the listener has closed, for a request that is on its way on an idle connection
ANSWER_S = 60.0  # for reading an answer
LINGER_S = 2.0  # for reading a refusal: to close at once would take it back if more is on the way


class Protocol(HttpToolsProtocol):
    """Ends what a client leaves unfinished, bounds what it sends outside a body, and refuses in the one shape."""

    _told = Sampler()
    cycle: Exchange

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer, self._answer_timer = Patience(self.loop, self.cut), Patience(self.loop, self.cut)
        self._unframed_bytes = 0  # received since the last head, piece of a body, or end
        self._in_message = self._in_head = False
        self._ending = False  # the next answer is the last one
        self._deaf = False  # what still comes is of no interest
        self._reason = NOT_HTTP
        self._pending_refusal: Refusal | None = None  # until the requests before it are answered
        self._running: Exchange | None = None  # uvicorn's `cycle` is the last one, which may have to wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take it, in the place of an idle one if need be."""
        super().connection_made(transport)
        excess = len(self.connections) - MAX_CONNECTIONS
        if excess <= 0 or self._end_an_idle_one():
            self._head_timer.start(HEAD_S)
        elif excess <= SPARE_CONNECTIONS:
            self._refuse(TOO_MANY_CONNECTIONS)
        else:
            self.cut()

    def cut(self) -> None:
        """End it at once, whatever is unread or unsent."""
        self._hang_up()
        self.transport.abort()

    def _hang_up(self) -> None:
        if self._running is not None:
            self._running.hang_up()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, Exchange)
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind, which would keep all of this in memory."""
        self._hang_up()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._head_timer.stop()
        self._answer_timer.stop()

    def data_received(self, data: bytes) -> None:
        """Parse it; refuse what is not HTTP, or too much of it."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._unframed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http1(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._reason)
        else:
            if self._unframed_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
            else:
                self._wait()

    def shutdown(self) -> None:
        """End after the answer to what is at work, or on its way: closed at once, an idle one would lose that."""
        self._ending = True
        if self._at_work():
            self.cycle.keep_alive = False
        else:
            self._unset_keepalive_if_required()
            self._head_timer.start(LAST_REQUEST_S)

    def _wait(self) -> None:
        """Between requests, a client may be idle, but not slow."""
        if self._at_work():
            return
        if self._in_message or self._unframed_bytes:
            self._head_timer.start(HEAD_S)
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def timeout_keep_alive_handler(self) -> None:
        """End it also where the last answer was not read: close() would wait for that."""
        self.cut()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        super().on_message_begin()
        self._in_message = self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep headers, and not what follows a chunked body and would be added to them afterwards."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with a request, unless its head is too large or too many wait already."""
        self._head_timer.stop()
        self._unframed_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._reason = HEAD_TOO_LARGE
            raise ValueError
        if len(self.pipeline) >= MAX_PIPELINED:
            self._reason = TOO_MANY_PIPELINED
            raise ValueError
        before, self.cycle = self.cycle, Exchange(self)
        if self.parser.should_upgrade() or self._ending:
            self.cycle.keep_alive = False
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unframed_bytes = 0
        if self._in_message and not self.cycle.response_complete:
            self.cycle.take(body)

    def on_message_complete(self) -> None:
        """End a request. Where another protocol was offered, the parser thinks that there is no body."""
        if self.parser.should_upgrade() and self._framing():
            return
        self._in_message = False
        self._unframed_bytes = 0
        self._head_timer.stop()
        super().on_message_complete()

    def _framing(self) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in self.headers if name in (b"content-length", b"transfer-encoding")]

    def _stay_with_http1(self, rest: bytes) -> None:
        """Ignore an offer of HTTP/2 or WebSocket, as RFC 9110 allows, and read the body that came with it.

        The parser stops at such a head, and would take the body for the next request. Java's client sends such heads.
        """
        if not self._in_message:
            self._deaf = True
            return
        self.parser = httptools.HttpRequestParser(_BodyOnly(self))
        head = [b"POST / HTTP/1.1", *(name + b": " + value for name, value in self._framing()), b"", b""]
        self.parser.feed_data(b"\r\n".join(head))
        if rest:
            self.data_received(rest)

    def _refuse(self, refusal: Refusal) -> None:
        """Tell the client once those requests are answered that came before, and close."""
        self._deaf = True
        self._head_timer.stop()
        if (left_out := self._told.left_out()) is not None:
            log.info("connection refused: %s (and %d before it)", refusal.error, left_out)
        if self._in_message and not self._in_head:  # its own body is what is wrong
            if not self._at_work():
                self._say_last(b"")  # it has its answer
                return
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            else:
                self._hang_up()
        if self._at_work() and not self.cycle.disconnected:
            self._pending_refusal = refusal
        else:
            self._say_last(refusal.written())

    def _say_last(self, words: bytes) -> None:
        if words:
            self.transport.write(words)
        self.transport.write_eof()
        self._answer_timer.start(LINGER_S)

    def on_response_complete(self) -> None:
        """Go on with the next request, or with what was wrong with it; and do not wait for ever for a reader."""
        was_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._answer_timer.start(ANSWER_S)
        elif was_last and self._pending_refusal is not None:
            self._say_last(self._pending_refusal.written())

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while."""
        super().pause_writing()
        self._answer_timer.start(ANSWER_S)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if not (self.transport.is_closing() or self._deaf):
            self._answer_timer.stop()

    def _end_an_idle_one(self) -> bool:
        for connection in self.connections:
            if isinstance(connection, Protocol) and connection.timeout_keep_alive_task is not None:
                connection._unset_keepalive_if_required()
                connection.cut()
                return True
        return False


class _BodyOnly:
    """Hands a body on to the protocol, and nothing after it."""

    def __init__(self, protocol: Protocol) -> None:
        self.on_body, self.on_message_complete = protocol.on_body, protocol.on_message_complete
