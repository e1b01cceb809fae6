"""One connection: uvicorn's HTTP/1.1, and what keeps a client from holding it, or filling the memory, for ever.

The application has its own deadline for a request's body and its answer. Here are those for what it never sees: a head
that does not end, a connection without a request, an answer that nobody reads. For none of them has uvicorn a setting:
`limit_concurrency` refuses requests and keeps their connections, `h11_max_incomplete_event_size` is for its other
parser, `timeout_keep_alive` begins with the end of an answer. A proxy in front has them, but the service is also run
without one. Each method says what uvicorn's own would let through.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.connection_limits import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    MAX_PIPELINED,
    NOT_HTTP,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_PIPELINED,
    ConnectionLimits,
    Refusal,
    Timer,
)
from service.http.cycle import Cycle
from service.logs import Sampler

log = logging.getLogger(__name__)
Idle = OrderedDict["Protocol", None]  # connections between two requests, that which has been so for longest first


class Protocol(HttpToolsProtocol):
    """Ends what a client leaves unfinished, bounds what it sends outside a body, and refuses in the one shape."""

    _refusal_log = Sampler()
    cycle: Cycle

    def __init__(
        self, *args: Any, limits: ConnectionLimits, idle: Idle, on_lost: Callable[[], None], **kwargs: Any
    ) -> None:
        self._idle = idle
        super().__init__(*args, **kwargs)
        self.limits, self._on_lost = limits, on_lost
        self._head_timer, self._answer_timer = Timer(self.loop, self.abort), Timer(self.loop, self.abort)
        self._unframed_bytes = 0  # received since the last head, piece of a body, or end
        self._in_message = self._in_head = False
        self._draining = False  # the next answer is the last one
        self._discards_input = False  # after a refusal, what still comes is not parsed
        self._parser_refusal = NOT_HTTP  # the answer if the parser fails, also where a callback made it fail
        self._pending_refusal: Refusal | None = None  # until the requests before it are answered
        self._active_cycle: Cycle | None = None  # uvicorn's `cycle` is the last one, which may have to wait

    @property  # of uvicorn's attribute: to look through thousands of connections for an idle one took milliseconds
    def timeout_keep_alive_task(self) -> asyncio.TimerHandle | None:
        """What ends it when it has been idle for too long; None while it is not idle."""
        return self._keep_alive_timer

    @timeout_keep_alive_task.setter
    def timeout_keep_alive_task(self, timer: asyncio.TimerHandle | None) -> None:
        self._keep_alive_timer = timer
        self._idle.pop(self, None)
        if timer is not None:
            self._idle[self] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Accept it, in the place of an idle one if need be.

        Against more connections than the process has file descriptors for; uvicorn accepts any number.
        """
        super().connection_made(transport)
        excess = len(self.connections) - self.limits.max_connections
        if excess <= 0 or self._evict_idle_connection():
            self._head_timer.start(self.limits.head_s)
        elif excess <= self.limits.max_refused:
            self._refuse(TOO_MANY_CONNECTIONS)
        else:
            self.abort()

    def abort(self) -> None:
        """End it at once, whatever is unread or unsent."""
        self._disconnect_active_cycle()
        self.transport.abort()

    def _disconnect_active_cycle(self) -> None:
        if self._active_cycle is not None:
            self._active_cycle.disconnect()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Note which of the pipelined requests is running.

        Against work for a client that is gone: uvicorn marks only the last cycle, and waits to be asked.
        """
        assert isinstance(cycle, Cycle)
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the work, and leave no timer behind, which would keep all of this in memory.

        uvicorn keeps its keep-alive timer, and with it the connection, where a client resets the connection.
        """
        self._disconnect_active_cycle()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._head_timer.stop()
        self._answer_timer.stop()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse it; refuse what is not HTTP, or too much of it.

        Against heads, trailers and chunk extensions without end: uvicorn and its parser bound none of them.
        """
        if self._discards_input:
            return
        self._unset_keepalive_if_required()
        self._unframed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._parser_refusal)
        else:
            if self._unframed_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
            else:
                self._start_waiting()

    def shutdown(self) -> None:
        """End after the answer to what is running, or on its way.

        Against lost requests: uvicorn closes an idle connection at once, and resets what was just sent on it.
        """
        self._draining = True
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self._unset_keepalive_if_required()
            self._head_timer.start(self.limits.last_request_s)

    def _start_waiting(self) -> None:
        """Start the timer of a client that has to send something: between requests it may be idle, but not slow."""
        if self._is_answering():
            return
        if self._in_message or self._unframed_bytes:
            self._head_timer.start(self.limits.head_s)
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def timeout_keep_alive_handler(self) -> None:
        """End it also where the last answer was not read: uvicorn's close() would wait for that."""
        self.abort()

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        super().on_message_begin()
        self._in_message = self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep headers, and not the trailers of a chunked body: uvicorn adds those to the request that is running."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin with a request, unless its head is too large or too many wait already.

        In place of uvicorn's, which bounds neither, and names its own class of cycle.
        """
        self._head_timer.stop()
        self._unframed_bytes = 0
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._parser_refusal = HEAD_TOO_LARGE
            raise ValueError
        if len(self.pipeline) >= MAX_PIPELINED:
            self._parser_refusal = TOO_MANY_PIPELINED
            raise ValueError
        before, self.cycle = self.cycle, Cycle(self)
        if self.parser.should_upgrade() or self._draining:
            self.cycle.keep_alive = False
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; bytes of a body are not bytes of a head."""
        self._unframed_bytes = 0
        if self._in_message and not self.cycle.response_complete:
            self.cycle.feed_body(body)

    def on_message_complete(self) -> None:
        """End a request. Where another protocol was offered, the parser thinks that there is no body."""
        if self.parser.should_upgrade() and self._body_framing():
            return
        self._in_message = False
        self._unframed_bytes = 0
        self._head_timer.stop()
        super().on_message_complete()

    def _body_framing(self) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in self.headers if name in (b"content-length", b"transfer-encoding")]

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Ignore an offer of HTTP/2 or WebSocket, as RFC 9110 allows, and read the body that came with it.

        The parser stops at such a head, and would take the body for the next request; uvicorn drops it. Java's client
        sends such heads.
        """
        if not self._in_message:
            self._discards_input = True
            return
        self.parser = httptools.HttpRequestParser(_BodyCallbacks(self))
        head = [b"POST / HTTP/1.1", *(name + b": " + value for name, value in self._body_framing()), b"", b""]
        self.parser.feed_data(b"\r\n".join(head))
        if rest:
            self.data_received(rest)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer it once the requests that came before have their answers, and close."""
        self._discards_input = True
        self._head_timer.stop()
        if (left_out := self._refusal_log.left_out()) is not None:
            log.info("connection refused: %s (and %d before it)", refusal.error, left_out)
        if self._in_message and not self._in_head:  # its own body is what is wrong
            if not self._is_answering():
                self._write_last(b"")  # it has its answer
                return
            if self.pipeline:
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            else:
                self._disconnect_active_cycle()
        if self._is_answering() and not self.cycle.disconnected:
            self._pending_refusal = refusal
        else:
            self._write_last(refusal.to_bytes())

    def _write_last(self, response: bytes) -> None:
        """Half-close, so that the client can read the response, and abort where it does not close its side."""
        if response:
            self.transport.write(response)
        self.transport.write_eof()
        self._answer_timer.start(self.limits.linger_s)

    def on_response_complete(self) -> None:
        """Go on with the next request, or with what was wrong with it.

        Against an answer that nobody reads, which uvicorn keeps as long as the client keeps the connection.
        """
        was_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._answer_timer.start(self.limits.answer_s)
        elif was_last and self._pending_refusal is not None:
            self._write_last(self._pending_refusal.to_bytes())

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while; uvicorn waits for ever."""
        super().pause_writing()
        self._answer_timer.start(self.limits.answer_s)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if not (self.transport.is_closing() or self._discards_input):
            self._answer_timer.stop()

    def _evict_idle_connection(self) -> bool:
        if self._idle:
            connection, _ = self._idle.popitem(last=False)
            connection._unset_keepalive_if_required()
            connection.abort()
            return True
        return False


class _BodyCallbacks:
    """What a parser of a body alone calls: the protocol, and nothing after the end of the body."""

    def __init__(self, protocol: Protocol) -> None:
        self.on_body, self.on_message_complete = protocol.on_body, protocol.on_message_complete
