"""What a request may cost before anything understands it: bytes, time, and a client that is still there.

Pure ASGI, around the whole application. The body is read here, once, and counted as it comes in, so that neither a
missing nor a lying Content-Length matters. The work is cancelled when its time is up, or when the connection tells that
the client hung up, and that takes its items out of every queue. A large answer counts, too, until the client has read
most of it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Admission, ByteReservation
from service.errors import ApiError, ErrorResponse
from service.request_context import RequestContext
from service.settings import Settings
from service.web.auth import is_admin
from service.web.cancel_scope import ClientDisconnectedError, RequestCancelScope
from service.web.health_paths import is_health

_SECONDS = re.compile(rb"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
MAX_SECONDS_BYTES = 32
REQUESTS_PER_ITERATION = 8
LARGE_ANSWER_BYTES = 64 * 1024  # up to here, what a client leaves unread fits into the connection's buffers


class RequestPacer:
    """Lets a few requests begin in each iteration of the event loop, in the order in which they came.

    Without it, all that came in during one long iteration begin together in the next one, which is then as long:
    refusals and health checks wait behind a thousand requests, and the queue fills and empties in waves.
    """

    def __init__(self, per_iteration: int = REQUESTS_PER_ITERATION) -> None:
        self._per_iteration = per_iteration
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = self._per_iteration
        self._scheduled = False

    async def wait(self) -> None:
        """Return when it is this request's turn; at once unless many came in together."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start_next)
        if self._left:
            self._left -= 1
            return
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        await future

    def _start_next(self) -> None:
        self._left = self._per_iteration
        while self._waiting and self._left:
            future = self._waiting.popleft()
            if not future.done():  # else its client left, or its time is up
                future.set_result(None)
                self._left -= 1
        self._scheduled = self._left < self._per_iteration
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._start_next)


class RequestLimitsMiddleware:
    """Serves a request within its limits of bytes and seconds, and in its turn."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission) -> None:
        self.app, self.max_body_bytes, self.timeout_s = app, settings.max_body_bytes, settings.timeout_s
        self.admission, self.pacer = admission, RequestPacer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits."""
        if scope["type"] != "http" or _is_unlimited(scope["path"]):
            return await self.app(scope, receive, send)
        context: RequestContext = scope["state"]["context"]
        try:
            await self._serve(scope, context, receive, send)
        except ApiError as error:
            context.error_code = error.code
            if not context.status:
                await ErrorResponse(error)(scope, receive, send)
        except asyncio.CancelledError:
            # The server gives up on what has not been done by the end of its drain time.
            if not context.status:
                await ErrorResponse(_server_stopping())(scope, receive, send)
            raise

    async def _serve(self, scope: Scope, context: RequestContext, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        timeout_s = _parse_timeout_s(scope, headers, self.timeout_s)
        declared_bytes = self._declared_bytes(headers)
        has_body, admin = _has_body(scope["method"], headers), is_admin(scope["path"])
        refusable = has_body and not admin  # what an operator does to a busy service is not refused
        if refusable:
            self.admission.check(items=1, size=declared_bytes)
        elif not admin:
            self.admission.check(size=1)  # the answer may be large, and stay unread
        with (
            RequestCancelScope(timeout_s) as cancel_scope,
            self.admission.reserve_bytes(refusable=refusable) as reservation,
        ):
            context.hang_up, context.reservation = cancel_scope.cancel, reservation
            context.headers, context.query_string = headers, scope["query_string"]
            try:
                if has_body:
                    context.body = await self._read(receive, reservation)
                with self.admission.reserve_request() if refusable else nullcontext():
                    await self.pacer.wait()
                    await self.app(scope, receive, _send_within(send, reservation, cancel_scope))
            finally:
                # The connection keeps the context until its next request.
                context.body, context.hang_up = b"", lambda: None

    def _declared_bytes(self, headers: Mapping[bytes, bytes]) -> int:
        declared = headers.get(b"content-length", b"")
        size = int(declared) if declared.isdigit() else 0
        if size > self.max_body_bytes:
            raise self._too_large()
        return size

    async def _read(self, receive: Receive, reservation: ByteReservation) -> bytes:
        chunks: list[bytes] = []
        received = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > self.max_body_bytes:
                raise self._too_large()
            reservation.add(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError("body_too_large", f"The body is over the limit of {self.max_body_bytes} bytes; send less.")


def _has_body(method: str, headers: Mapping[bytes, bytes]) -> bool:
    framed = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return framed or method in ("POST", "PUT", "PATCH")


def _is_unlimited(path: str) -> bool:
    """Health checks and metrics are answered whatever else goes on."""
    return path == "/metrics" or is_health(path)


def _parse_timeout_s(scope: Scope, headers: Mapping[bytes, bytes], limit_s: float) -> float:
    """`x-request-timeout` or, if that is less or there is none, the server's. Raises `invalid_request`.

    Digits as in JSON, nothing else that Python reads.
    """
    if b"x-request-timeout" not in headers:
        return limit_s
    values = {value.strip() for name, value in scope["headers"] if name == b"x-request-timeout"}
    text = min(values)
    valid = len(values) == 1 and len(text) <= MAX_SECONDS_BYTES and _SECONDS.fullmatch(text)
    timeout_s = float(text) if valid else math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ApiError("invalid_request", "This header is one number of seconds above 0.", "x-request-timeout")
    return min(timeout_s, limit_s)


def _server_stopping() -> ApiError:
    return ApiError("unavailable", "The service is stopping; send the request again.")


def _send_within(send: Send, reservation: ByteReservation, cancel_scope: RequestCancelScope) -> Send:
    """Send an answer that is in time, and stay until a large one has been read; the connection ends those that do not.

    Its end is sent by itself: the server takes it once there is little left of what was sent before.
    """

    async def send_within(message: Message) -> None:
        if message["type"] == "http.response.start":
            cancel_scope.remove_deadline()
        elif len(message.get("body", b"")) > LARGE_ANSWER_BYTES and not message.get("more_body", False):
            reservation.add_unconditionally(len(message["body"]))
            await send({**message, "more_body": True})
            message = {**message, "body": b""}
        await send(message)

    return send_within
