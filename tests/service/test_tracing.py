"""Traces as a collector gets them, and what happens without one."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from benchmarks.service_process import Running, running
from model.requirements import pip_install
from service import tracing
from service.request_context import STAGES, Timing
from tests.service import pictures

PARENT_TRACE, PARENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "somethingnobodyelsemustread"
WAIT_S = 20.0


class Collector:
    """What an OTLP collector is to its clients: POST /v1/traces, answered with 200."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> list[Span]:
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def traces_of(self, request_id: str) -> list[Span]:
        """The span of that request, and those inside it; waits for them."""
        ends = time.monotonic() + WAIT_S
        while time.monotonic() < ends:
            spans = self.spans()
            roots = [span for span in spans if attributes(span).get("sightword.request_id") == request_id]
            if roots:
                return [*roots, *(span for span in spans if span.parent_span_id == roots[0].span_id)]
            time.sleep(0.05)
        raise AssertionError("the spans did not come")


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = Thread(target=collector.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
            patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
            service = stack.enter_context(running(tmp_path_factory.mktemp("traced"), bundle_path))
        yield service


def post(service: Running, request_id: str, path: str = "/embed", **request: Any) -> httpx.Response:
    headers = {"x-request-id": request_id, **request.pop("headers", {})}
    return httpx.post(f"{service.url}{path}", headers=headers, timeout=60, **request)


def test_a_request_is_a_span_with_its_stages_inside(traced: Running, collector: Collector) -> None:
    body = {"inputs": ["a cat", {"image": pictures.as_base64("rocket")}]}
    assert post(traced, "two-items", json=body).status_code == 200
    request, *stages = collector.traces_of("two-items")
    assert (request.name, request.kind, request.parent_span_id) == ("POST /embed", Span.SPAN_KIND_SERVER, b"")
    told = attributes(request)
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == "/embed"
    assert told["http.response.status_code"] == 200
    assert told["sightword.items"] == 2
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert {stage.name for stage in stages} == set(STAGES) - {"fetch"}
    for stage in stages:
        assert stage.trace_id == request.trace_id
        assert request.start_time_unix_nano <= stage.start_time_unix_nano
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano <= request.end_time_unix_nano
    began = {stage.name: stage.start_time_unix_nano for stage in stages}
    assert began["decode"] < began["preprocess"] < began["serialize"]
    # Of the inference of the picture and that of the text the longer one is told, and the text does not wait.
    assert began["tokenize"] < began["inference"] < began["serialize"]
    assert abs(time.time_ns() - request.end_time_unix_nano) < 60e9
    resource = attributes(collector.requests[0].resource_spans[0].resource)
    assert resource["service.name"] == "sightword"
    assert resource["deployment.environment.name"] == "tests"


def test_it_belongs_to_the_trace_of_the_caller(traced: Running, collector: Collector) -> None:
    headers = {"traceparent": f"00-{PARENT_TRACE}-{PARENT_SPAN}-01"}
    post(traced, "child", json={"inputs": "a cat"}, headers=headers)
    request, *stages = collector.traces_of("child")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (PARENT_TRACE, PARENT_SPAN)
    assert {stage.trace_id.hex() for stage in stages} == {PARENT_TRACE}


def test_a_caller_can_leave_a_request_out_and_a_broken_header_cannot_harm(
    traced: Running, collector: Collector
) -> None:
    for header in (f"00-{PARENT_TRACE}-{PARENT_SPAN}-00", "00-zz-11-01", "\xff" * 100):
        parent = {"traceparent": header.encode("latin-1")}
        answer = post(traced, f"header-{len(header)}", json={"inputs": "x"}, headers=parent)
        assert answer.status_code == 200
    collector.traces_of("header-100")
    collector.traces_of("header-11")
    told = [attributes(span).get("sightword.request_id") for span in collector.spans()]
    assert "header-55" not in told


def test_refusals_are_told_and_content_is_not(traced: Running, collector: Collector) -> None:
    assert post(traced, "refused", "/embed?x=" + SECRET, json={"inputs": [SECRET]}).status_code == 422
    assert post(traced, "no-path", f"/{SECRET}", json={}).status_code == 404
    assert post(
        traced, "deadline", json={"inputs": [SECRET * 3] * 400}, headers={"x-request-timeout": "0.001"}
    ).is_error
    refused, *_ = collector.traces_of("refused")
    assert attributes(refused)["sightword.error_code"] == "invalid_request"
    assert refused.status.code == Status.STATUS_CODE_UNSET  # the client's fault is no error of the server
    nowhere, *_ = collector.traces_of("no-path")
    assert nowhere.name == "POST"
    assert "http.route" not in attributes(nowhere)
    late, *_ = collector.traces_of("deadline")
    assert late.status.code == Status.STATUS_CODE_ERROR
    assert attributes(late)["error.type"] == "deadline_exceeded"
    assert SECRET not in str(collector.requests)


def test_probes_are_not_traced(traced: Running, collector: Collector) -> None:
    httpx.get(f"{traced.url}/health/live", headers={"x-request-id": "probe"})
    post(traced, "after-the-probe", json={"inputs": "x"})
    collector.traces_of("after-the-probe")
    assert "probe" not in [attributes(span).get("sightword.request_id") for span in collector.spans()]


def test_the_last_spans_are_sent_at_the_end(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        with running(tmp_path, bundle_path) as service:
            post(service, "last", json={"inputs": "a cat"})
            assert collector.requests == []
            assert service.stop() == 0
        assert collector.traces_of("last")


def test_a_collector_that_is_not_there_harms_nothing(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
    with running(tmp_path, bundle_path) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        statuses = {client.post("/embed", json={"inputs": f"text {number}"}).status_code for number in range(100)}
        assert statuses == {200}
        assert service.stop() == 0
        warnings = [line for line in service.log().splitlines() if '"opentelemetry' in line]
        assert 0 < len(warnings) < 20


def test_nothing_is_sent_or_even_loaded_unless_asked_for() -> None:
    code = """
import os, sys
from service.settings import Settings
from service.state import Service

off = (
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
)
for environment in off:
    os.environ.update(environment)
    assert Service(Settings()).traces is None, environment
sys.exit(any(name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter")) for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_without_the_extra_the_start_goes_on_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level(logging.WARNING):
        assert tracing.from_environment() is None
    assert pip_install("tracing") in caplog.text
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in caplog.text


def test_a_stage_keeps_its_slowest_item_and_when_that_began() -> None:
    timing = Timing(started=0.0)
    for started, finished in ((1.0, 2.0), (3.0, 5.0), (4.0, 5.5)):
        timing.record("decode", started, finished)
    assert (timing.stages, timing.starts) == ({"decode": 2.0}, {"decode": 3.0})


def test_metrics_and_log_lead_to_the_trace(traced: Running, collector: Collector) -> None:
    post(traced, "led-to", json={"inputs": "a slow one, perhaps"})
    trace_id = collector.traces_of("led-to")[0].trace_id.hex()
    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    text = httpx.get(f"{traced.url}/metrics", headers=accept).text
    buckets = [line for line in text.splitlines() if line.startswith("sightword_request_seconds_bucket{")]
    assert any(f'# {{trace_id="{trace_id}"}}' in line for line in buckets)
    assert trace_id in traced.log()


def test_without_traces_there_are_no_exemplars(service: Running) -> None:
    httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, timeout=60).raise_for_status()
    text = httpx.get(f"{service.url}/metrics", headers={"accept": "application/openmetrics-text"}).text
    assert "trace_id" not in text
