"""OpenTelemetry traces: one span for each request and one for each of its stages, sent in the background.

Off unless the standard variable OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) names a collector.
The other standard variables hold, too: OTEL_SDK_DISABLED, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and so on. Spans tell
what the log tells, and like it never the content of a request, its path or its query.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from starlette.types import Scope

from model import __version__
from model.requirements import pip_install
from service.request_context import RequestContext
from service.settings import SettingsError

log = logging.getLogger(__name__)
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
FLUSH_S = 5.0  # at the end, for what has not been sent yet
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_PARENT_HEADERS = (b"traceparent", b"tracestate")


class RequestTracer:
    """Creates the spans of a request once it has ended, from the timings in its context."""

    def __init__(self) -> None:
        """Start the exporter's thread. Raises ImportError where the extra `tracing` is not installed."""
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = {"service.name": "sightword", "service.version": __version__}
        resource = Resource.create({**named, **OTELResourceDetector().detect().attributes})
        # Not the global provider: FastAPI would find that one, and its spans hold paths and queries.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sightword", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def record(self, scope: Scope, route: str, context: RequestContext, status: int) -> str | None:
        """Create the spans of a request that has just ended; returns its trace id, or None if it is not sampled."""
        now = time.perf_counter()
        epoch_ns = time.time_ns() - int(now * 1e9)

        def at(moment: float) -> int:
            return epoch_ns + int(moment * 1e9)

        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            " ".join([method.replace("_OTHER", "HTTP"), *([route] if route.startswith("/") else [])]),
            context=self._propagator.extract(_carrier(scope)),
            kind=self._trace.SpanKind.SERVER,
            attributes=_attributes(scope, method, route, context, status),
            start_time=at(context.timing.started),
        )
        if span.is_recording():
            inside = self._trace.set_span_in_context(span)
            for stage, seconds in tuple(context.timing.stages.items()):
                started = context.timing.starts[stage]
                self._tracer.start_span(stage, inside, start_time=at(started)).end(at(started + seconds))
            if status >= 500:
                span.set_status(self._trace.StatusCode.ERROR)
        sampled = span.is_recording()
        span.end(at(now))
        return self._trace.format_trace_id(span.get_span_context().trace_id) if sampled else None

    def close(self) -> None:
        """Export what is left, for at most FLUSH_S: a collector that does not answer must not delay the exit."""
        flush = threading.Thread(target=self._provider.shutdown, name="flush-traces", daemon=True)
        flush.start()
        flush.join(FLUSH_S)


def from_environment() -> RequestTracer | None:
    """A tracer, where the environment names a collector and the extra is installed. Raises SettingsError."""
    environment = {name: value.strip() for name, value in os.environ.items() if name.startswith("OTEL_")}
    asked = next((name for name in ENDPOINTS if environment.get(name)), None)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if asked is None or disabled or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in PROTOCOLS:
        if environment.get(name, "http/protobuf") != "http/protobuf":
            log.warning("%s=%s is not supported; traces are sent as http/protobuf", name, environment[name])
    try:
        return RequestTracer()
    except (ValueError, OverflowError) as error:
        raise SettingsError(f"a variable OTEL_... cannot be used, so that no traces could be sent: {error}") from None
    except ImportError:
        log.warning("%s is set, but sending traces needs an extra: %s", asked, pip_install("tracing"))
        return None


def _carrier(scope: Scope) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PARENT_HEADERS}


def _attributes(scope: Scope, method: str, route: str, context: RequestContext, status: int) -> dict[str, Any]:
    """Names of OpenTelemetry's semantic conventions for HTTP servers; ours begin with `sightword`."""
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "sightword.request_id": context.request_id,
        "sightword.items": context.items,
    }
    if route.startswith("/"):
        attributes["http.route"] = route
    if context.error_code is not None:
        attributes["sightword.error_code"] = context.error_code
    if status >= 500:
        attributes["error.type"] = context.error_code or str(status)
    return attributes
