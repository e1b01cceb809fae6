"""What is reported of every request: id, timing header, metrics, log line and trace. Pure ASGI, outermost."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import queue_full
from service.errors import ErrorResponse, internal_error
from service.logs import Sampler, log_request
from service.metrics import Metrics
from service.request_context import RequestContext
from service.tracing import RequestTracer
from service.web.auth import is_admin
from service.web.cancel_scope import ClientDisconnectedError
from service.web.error_shapes import ErrorShapes
from service.web.health_paths import is_health

log = logging.getLogger("service.request")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
SAMPLED = ("overloaded", "invalid_api_key")  # refusals that cost next to nothing, but for their log lines
CLIENT_CLOSED_REQUEST = 499  # nobody reads it; metrics and log need a number, and this is the one proxies use


class ObservabilityMiddleware:
    """Gives each request its context, and reports on it when it has ended."""

    def __init__(
        self,
        app: ASGIApp,
        paths: Iterable[str],
        error_shapes: ErrorShapes,
        metrics: Metrics,
        draining: Callable[[], bool],
        free: Callable[[], int],
        allows: Callable[[Scope], bool],
        traces: RequestTracer | None = None,
    ) -> None:
        self.app, self.metrics, self.traces = app, metrics, traces
        self.draining, self.free, self.allows = draining, free, allows
        self._static_paths = frozenset(path for path in paths if "{" not in path)
        self._error_shapes = error_shapes
        self._queue_full = {
            shape: _serialize_refusal(ErrorResponse(queue_full(), shape=shape)) for shape in error_shapes.all
        }
        self._refusal_sampler = Sampler()

    def refuse(self, scope: Scope) -> bytes | None:
        """The answer, from its headers on, to a request that finds the queue full; None if it may still be admitted."""
        work = scope["method"] == "POST" and scope["path"] in self._static_paths and not is_admin(scope["path"])
        if not (work and self.allows(scope)) or self.draining():
            return None
        context = RequestContext(_request_id(scope), error_code="overloaded")
        self._report(scope, context, 429)
        refusal = self._queue_full[self._error_shapes.find(scope["path"])]
        return refusal % (context.request_id.encode(), context.timing.header().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and report on it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = RequestContext(_request_id(scope), self._error_shapes.find(scope["path"]))
        scope.setdefault("state", {})["context"] = context

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *self._headers(context)]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnectedError:
            context.status = CLIENT_CLOSED_REQUEST
        except Exception:
            log.exception("request %s failed", context.request_id)
            context.error_code = "internal_error"
            if not context.status:
                await ErrorResponse(internal_error())(scope, receive, send_with_headers)
        finally:
            self._report(scope, context, context.status or CLIENT_CLOSED_REQUEST)

    def _headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"x-request-id", context.request_id.encode()),
            (b"server-timing", context.timing.header().encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if context.digest is not None:  # vectors of different models must not be compared
            headers.append((b"x-model-digest", context.digest.encode()))
        headers += [(f"x-{name}-read-as".encode(), form.encode()) for name, form in context.read_as.items()]
        if context.trained_dimensions:
            headers.append((b"x-matryoshka-dimensions", ", ".join(map(str, context.trained_dimensions)).encode()))
        if self.draining():  # the next request of this client belongs to another replica
            headers.append((b"connection", b"close"))
        return headers

    def _report(self, scope: Scope, context: RequestContext, status: int) -> None:
        route = self._route_template(scope)
        left_out = self._refusal_sampler.left_out() if context.error_code in SAMPLED else 0
        silent = left_out is None or is_health(route) or route == "/metrics"  # probes are of no interest
        trace_id = None if silent or self.traces is None else self.traces.record(scope, route, context, status)
        self.metrics.record_request(route, status, context.timing, context.error_code, trace_id)
        if silent:
            return
        others = f" (and {left_out} other refusals before it)" if left_out else ""
        method = scope["method"]
        log_request(
            f"{method} {route} {status}{others}",
            {
                "request_id": context.request_id,
                "trace_id": trace_id,
                "method": method,
                "route": route,
                "status": status,
                "code": context.error_code,
                "items": context.items,
                "ms": context.timing.milliseconds(),
            },
        )

    def _route_template(self, scope: Scope) -> str:
        """The template, never the path that was asked for: paths are endless, and metrics keep every label."""
        route = scope.get("route")
        template = getattr(route, "path_format", None) or getattr(route, "path", None)
        if isinstance(template, str):
            return template
        return scope["path"] if scope["path"] in self._static_paths else "unmatched"  # refused before there was a route


def _serialize_refusal(refusal: Response) -> bytes:
    """Headers and body as sent, with `%s` for the request id and for the timing."""
    lines = [*refusal.raw_headers, (b"x-content-type-options", b"nosniff")]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    rest = bytes(refusal.body).replace(b"%", b"%%")
    return head.replace(b"%", b"%%") + b"x-request-id: %s\r\nserver-timing: %s\r\n\r\n" + rest


def _request_id(scope: Scope) -> str:
    """The client's own, if it can be logged and sent back as it is."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(128):032x}"  # of no use to anybody who guesses it
