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
from collections.abc import Mapping, Set
from contextlib import nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Admission, ByteReservation
from service.errors import ApiError, error_response
from service.request_context import RequestContext
from service.settings import Settings
from service.web.auth import is_admin
from service.web.cutoff import ClientGoneError, Cutoff
from service.web.pacing import Turnstile

_SECONDS = re.compile(rb"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
MAX_SECONDS_BYTES = 32
LARGE_ANSWER_BYTES = 64 * 1024  # up to here, what a client leaves unread fits into the connection's buffers


class RequestLimits:
    """The layer between Observe and the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission) -> None:
        self.app, self.max_body_bytes, self.timeout_s = app, settings.max_body_bytes, settings.timeout_s
        self.admission, self.turnstile = admission, Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits."""
        if scope["type"] != "http" or _is_always_answered(scope["path"]):
            return await self.app(scope, receive, send)
        call: RequestContext = scope["state"]["call"]
        try:
            await self._serve(scope, call, receive, send)
        except ApiError as error:
            call.error_code = error.code
            if not call.status:
                await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:
            # The server gives up on what has not been done by the end of its drain time.
            if not call.status:
                await error_response(_stopping())(scope, receive, send)
            raise

    async def _serve(self, scope: Scope, call: RequestContext, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        asked = {value.strip() for name, value in scope["headers"] if name == b"x-request-timeout"}
        timeout_s = _timeout_s(asked, self.timeout_s)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            raise self._too_large()
        has_body, admin = _has_body(scope["method"], headers), is_admin(scope["path"])
        refusable = has_body and not admin  # what an operator does to a busy service is not refused
        if refusable:
            self.admission.check(items=1, size=int(declared) if declared.isdigit() else 0)
        elif not admin:
            self.admission.check(size=1)  # the answer may be large, and stay unread
        with Cutoff(timeout_s) as cutoff, self.admission.reserve_bytes(refusable=refusable) as reservation:
            call.hang_up, call.reservation = cutoff.hang_up, reservation
            call.headers, call.query_string = headers, scope["query_string"]
            try:
                if has_body:
                    call.body = await self._read(receive, reservation)
                with self.admission.reserve_request() if refusable else nullcontext():
                    await self.turnstile.wait()
                    await self.app(scope, receive, _held(send, reservation, cutoff))
            finally:
                call.body, call.hang_up = b"", lambda: None  # the connection keeps the call until its next request

    async def _read(self, receive: Receive, reservation: ByteReservation) -> bytes:
        chunks: list[bytes] = []
        received = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
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


def _is_always_answered(path: str) -> bool:
    """Whatever else goes on."""
    return path == "/metrics" or path.startswith("/health/")


def _timeout_s(asked: Set[bytes], most: float) -> float:
    """The server's time, or less where the client asks for less: digits as in JSON, nothing else that Python reads."""
    if not asked:
        return most
    text = min(asked)
    plain = len(asked) == 1 and len(text) <= MAX_SECONDS_BYTES and _SECONDS.fullmatch(text)
    timeout_s = float(text) if plain else math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ApiError("invalid_request", "This header is one number of seconds above 0.", "x-request-timeout")
    return min(timeout_s, most)


def _stopping() -> ApiError:
    return ApiError("unavailable", "The service is stopping; send the request again.")


def _held(send: Send, reservation: ByteReservation, cutoff: Cutoff) -> Send:
    """Send an answer that is in time, and stay until a large one has been read; the connection ends those that do not.

    Its end is sent by itself: the server takes it once there is little left of what was sent before.
    """

    async def held_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            cutoff.lift_deadline()
        elif len(message.get("body", b"")) > LARGE_ANSWER_BYTES and not message.get("more_body", False):
            reservation.add_unconditionally(len(message["body"]))
            await send({**message, "more_body": True})
            message = {**message, "body": b""}
        await send(message)

    return held_send
