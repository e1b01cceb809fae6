"""What is told of every request: its id, its timing header, its metrics and its log line. Pure ASGI, outermost."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import error_response, internal_error
from service.limits import ClientGoneError
from service.metrics import Metrics
from service.timing import Call

log = logging.getLogger("service.request")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
CLIENT_GONE = 499  # nobody reads it; metrics and log need a number, and this is the one proxies use


class Observe:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, draining: Callable[[], bool]) -> None:
        self.app, self.metrics, self.draining = app, metrics, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and tell of it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        call = Call(_request_id(scope))
        scope.setdefault("state", {})["call"] = call
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [
                    *message.get("headers", ()),
                    (b"x-request-id", call.request_id.encode()),
                    (b"server-timing", call.timing.header().encode()),
                ]
                if self.draining():  # the next request of this client belongs to another replica
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception:
            log.exception("request %s failed", call.request_id)
            call.error_code = "internal_error"
            if not status:
                await error_response(internal_error())(scope, receive, send_with_headers)
        finally:
            self._tell(scope, call, status or CLIENT_GONE)

    def _tell(self, scope: Scope, call: Call, status: int) -> None:
        route = _route(scope)
        self.metrics.request_done(route, status, call.timing, call.error_code)
        level = logging.DEBUG if route.startswith("/health") or route == "/metrics" else logging.INFO
        log.log(
            level,
            "%s %s %d",
            scope["method"],
            route,
            status,
            extra={
                "request_id": call.request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "code": call.error_code,
                "items": call.items,
                "ms": {
                    **{stage: round(seconds * 1e3, 2) for stage, seconds in call.timing.stages.items()},
                    "total": round(call.timing.total_s() * 1e3, 2),
                },
            },
        )


def _route(scope: Scope) -> str:
    """The template, never the path that was asked for: paths are endless, and metrics keep every label."""
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return template
    return scope["path"] if "endpoint" in scope else "unmatched"  # /docs and /openapi.json have no parameters


def _request_id(scope: Scope) -> str:
    """The client's own, if it can be logged and sent back as it is."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
