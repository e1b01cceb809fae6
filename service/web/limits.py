"""What a request may cost before anything understands it: bytes, time, and a client that is still there.

Pure ASGI, around the whole application. The body is read here, once, and counted as it comes in, so that neither a
missing nor a lying Content-Length matters. The work is cancelled when its time is up or its client hangs up, and that
takes its items out of every queue. A large answer counts, too, until the client has read most of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ApiError, error_response
from service.settings import Settings
from service.web.auth import is_admin
from service.web.turnstile import Turnstile
from service.work.admission import Admission, Hold

ALWAYS = ("/health/", "/metrics")  # answered whatever else goes on
LARGE_ANSWER_BYTES = 64 * 1024  # up to here, what a client leaves unread fits into the connection's buffers


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class RequestLimits:
    """The layer between Observe and the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission) -> None:
        self.app, self.max_body_bytes, self.timeout_s = app, settings.max_body_bytes, settings.timeout_s
        self.admission, self.turnstile = admission, Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits."""
        if scope["type"] != "http" or scope["path"].startswith(ALWAYS):
            return await self.app(scope, receive, send)
        answered = False

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._serve(scope, receive, watched_send)
        except ApiError as error:
            scope["state"]["call"].error_code = error.code
            if not answered:
                await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:
            # The server gives up on what has not been done by the end of its drain time.
            if not answered:
                await error_response(_stopping())(scope, receive, send)
            raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        timeout_s = _timeout_s(headers.get(b"x-request-timeout"), self.timeout_s)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            raise self._too_large()
        has_body, admin = _has_body(scope), is_admin(scope["path"])
        refusable = has_body and not admin  # what an operator does to a busy service is not refused
        if refusable:
            self.admission.refuse_if_full(size=int(declared) if declared.isdigit() else 0)
        elif not admin:
            self.admission.refuse_if_full(items=0, size=1)  # the answer may be large, and stay unread
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                with self.admission.hold_bytes() as hold:
                    scope["state"]["call"].hold = hold
                    body = await self._read(receive, hold.add if refusable else hold.count) if has_body else b""
                    with self.admission.enter() if refusable else nullcontext():
                        await self.turnstile.wait()
                        work = self.app(scope, _replay(body), _held(send, hold, deadline))
                        await _until_client_leaves(work, receive)
        except TimeoutError:
            if not deadline.expired():
                raise
            message = f"The answer was not ready within {timeout_s:g} s; send fewer items or allow more time."
            raise ApiError("deadline_exceeded", message) from None

    async def _read(self, receive: Receive, hold: Callable[[int], None]) -> bytes:
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
            hold(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> ApiError:
        return ApiError("body_too_large", f"The body is over the limit of {self.max_body_bytes} bytes; send less.")


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    ) or scope["method"] in ("POST", "PUT", "PATCH")


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _timeout_s(asked: bytes | None, most: float) -> float:
    """The server's time, or less where the client asks for less."""
    if asked is None:
        return most
    try:
        timeout_s = float(asked)
    except ValueError:
        timeout_s = math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ApiError("invalid_request", "This header is a number of seconds above 0.", "x-request-timeout")
    return min(timeout_s, most)


def _stopping() -> ApiError:
    return ApiError("unavailable", "The service is stopping; send the request again.")


def _held(send: Send, hold: Hold, deadline: asyncio.Timeout) -> Send:
    """Send an answer that is in time, and stay until a large one has been read; the connection ends those that do not.

    Its end is sent by itself: the server takes it once there is little left of what was sent before.
    """

    async def held_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            if deadline.expired():
                raise asyncio.CancelledError
            deadline.reschedule(None)
        elif len(message.get("body", b"")) > LARGE_ANSWER_BYTES and not message.get("more_body", False):
            hold.count(len(message["body"]))
            await send({**message, "more_body": True})
            message = {**message, "body": b""}
        await send(message)

    return held_send


def _replay(body: bytes) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await asyncio.Event().wait()  # a hang-up ends the whole task, see _until_client_leaves
        raise AssertionError("unreachable")

    return receive


async def _until_client_leaves(work: Awaitable[None], receive: Receive) -> None:
    task = asyncio.ensure_future(work)
    hang_up = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, hang_up}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        task.result()
    finally:
        hang_up.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
