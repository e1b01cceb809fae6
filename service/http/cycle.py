"""The request/response cycle: the ASGI side of one request, fed by its connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.request_context import RequestContext

_NOT_IN_A_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_WITHOUT_BODY = (204, 304)


class Cycle(RequestResponseCycle):
    """uvicorn's, but the head of a response leaves together with the first of its body, and a body is not copied.

    Each write wakes the client, and takes longer than all the Python of a short answer: `benchmarks/STEPS.md` has what
    one instead of two buys.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        """For the request whose head `connection` has just parsed; completes its scope. Raises HttpParserError.

        Against an address with a fragment, which uvicorn takes and proxies read as a part of the path.
        """
        parser, scope = connection.parser, connection.scope
        if b"#" in connection.url:  # never sent by a client
            raise httptools.HttpParserError("a fragment")
        address, version = httptools.parse_url(connection.url), parser.get_http_version()
        scope["method"], scope["http_version"] = parser.get_method().decode("ascii"), version
        path = address.path.decode("ascii")
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, address.path
        scope["query_string"] = address.query or b""
        super().__init__(
            scope=scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=connection.logger,
            access_logger=connection.access_logger,
            access_log=False,
            default_headers=connection.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=connection.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=connection.on_response_complete,
        )
        self._response_head = b""  # waits for the body of the response
        self._body_pieces: list[bytes] = []  # of the request, received and not yet asked for
        self._body_bytes = 0  # their size

    def disconnect(self) -> None:
        """End the work on it: its client is gone, and to write to it from here on would be an error.

        An application learns this from uvicorn only where it waits in `receive`, which would take a task of its own.
        """
        if self.response_complete:
            return
        self.disconnected, self.waiting_for_100_continue = True, False
        self.message_event.set()
        context: RequestContext | None = self.scope["state"].get("context")  # none yet, if its task has not begun
        if context is not None:
            context.hang_up()

    def feed_body(self, piece: bytes) -> None:
        """Keep a piece of the request's body as it came; uvicorn copies it, twice."""
        self._body_pieces.append(piece)
        self._body_bytes += len(piece)
        if self._body_bytes > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI: give what has come of the body, or wait for more of it or for the end of the connection.

        Against a hang-up that is not seen: uvicorn does not read on after the last piece of a large body.
        """
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        pieces, self._body_pieces, self._body_bytes = self._body_pieces, [], 0
        self.flow.resume_reading()  # also after the last piece: what comes next may be the client's hang-up
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI: send a part of the response, once there is little left of what was sent before.

        Raises RuntimeError on parts out of order, and on a body that is not as long as its Content-Length says: the
        client would take what is too much for the next response.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._prepare_head(message["status"], [*self.default_headers, *message.get("headers", ())])
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"unexpected {message['type']}")

    def _prepare_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.response_started:
            raise RuntimeError("the answer has begun already")
        lines = [STATUS_LINE[status]]
        for name, value in headers:
            if _NOT_IN_A_HEADER.search(value):
                raise RuntimeError(f"not a value for the header {name!r}")
            if name == b"content-length":
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._response_head = b"".join(lines)
        self.response_started, self.waiting_for_100_continue = True, False

    def _send_body(self, body: bytes, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        elif self.chunked_encoding:
            chunk = (b"%x\r\n" % len(body), body, b"\r\n") if body else ()
            body = b"".join((*chunk, b"" if more else b"0\r\n\r\n"))
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the answer is not as long as its Content-Length says")
        self.transport.writelines([piece for piece in (self._response_head, body) if piece])
        self._response_head = b""
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
