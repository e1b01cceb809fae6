"""Prometheus metrics, as /metrics shows them. One registry for each process."""

from __future__ import annotations

from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from service.histogram import LoopHistogram
from service.request_context import Timing

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# From a cache hit in this process, some 10 µs, to a queue as long as the deadline.
STAGE_SECONDS = (0.00001, 0.00005, 0.0001, 0.00025, 0.0005, *REQUEST_SECONDS[:-1])
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The Prometheus metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("sightword_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.request_seconds = LoopHistogram(
            "sightword_request_seconds", "Time from request to answer.", "route", REQUEST_SECONDS, registry
        )
        self.stage_seconds = LoopHistogram(
            "sightword_stage_seconds",
            "Time of a request's slowest item in each stage.",
            "stage",
            STAGE_SECONDS,
            registry,
        )
        self.batch_items = Histogram(
            "sightword_batch_items", "Items in one execution.", ["tower"], buckets=ITEMS, registry=registry
        )
        self.queue_items = Gauge("sightword_queue_items", "Items admitted and not yet answered.", registry=registry)
        self.queue_bytes = Gauge("sightword_queue_bytes", "Bytes of requests held.", registry=registry)
        self.queue_items_limit = Gauge(
            "sightword_queue_items_limit", "Items beyond which requests are answered 429.", registry=registry
        )
        self.queue_bytes_limit = Gauge(
            "sightword_queue_bytes_limit", "Bytes beyond which requests are answered 429.", registry=registry
        )
        self.ready = Gauge(
            "sightword_ready",
            "1 while requests should be sent here: loaded, well, and not draining.",
            registry=registry,
        )
        self.cache_lookups = Counter(
            "sightword_cache_lookups", "Cache lookups, by tier and outcome.", ["tier", "outcome"], registry=registry
        )
        self.cache_bytes = Gauge("sightword_cache_bytes", "Bytes of the cache in memory.", registry=registry)
        self.redis_up = Gauge(
            "sightword_redis_up", "1 while Redis answers and is asked, 0 while it is left alone.", registry=registry
        )
        self.redis_writable = Gauge(
            "sightword_redis_writable", "1 while Redis stores vectors, 0 while it refuses to.", registry=registry
        )
        self.redis_errors = Counter(
            "sightword_redis_errors", "Failures of Redis, by kind.", ["kind"], registry=registry
        )
        self.label_set_errors = Counter(
            "sightword_label_set_errors", "Failures of the store of label sets, by kind.", ["kind"], registry=registry
        )
        self.reloads = Counter("sightword_reloads", "Models swapped in, by outcome.", ["outcome"], registry=registry)
        for outcome in ("done", "failed"):  # from the start: of one that appears at 1, Prometheus sees no increase
            self.reloads.labels(outcome)
        self.engine_restarts = Counter(
            "sightword_engine_restarts", "Engines opened again after a failure.", registry=registry
        )
        self.inference_items = Counter(
            "sightword_inference_items", "Items given to the model.", ["tower"], registry=registry
        )
        self.inference_executions = Counter(
            "sightword_inference_executions", "Runs of the model.", ["tower"], registry=registry
        )
        self.padded_items = Counter(
            "sightword_inference_padded_items",
            "Places of batches that were filled up, to have few shapes on a GPU.",
            ["tower"],
            registry=registry,
        )
        self.out_of_memory = Counter(
            "sightword_out_of_memory",
            "Times that the device had no memory for a batch and the largest became less.",
            ["tower"],
            registry=registry,
        )
        for tower in ("image", "text"):  # from the start, so that a rate has a value
            self.padded_items.labels(tower)
            self.out_of_memory.labels(tower)
        self.max_batch = Gauge(
            "sightword_max_batch", "Most items of one execution.", ["model", "tower"], registry=registry
        )
        self.device_memory_bytes = Gauge(
            "sightword_device_memory_bytes",
            "Memory of the GPU: total and free.",
            ["kind"],
            registry=registry,
        )
        self.rejections = Counter(
            "sightword_rejections", "Requests refused, by error code.", ["reason"], registry=registry
        )
        self.decoded_pixels = Counter("sightword_decoded_pixels", "Pixels of the pictures decoded.", registry=registry)
        self.model_info = Gauge(
            "sightword_model_info",
            "1 for each model served.",
            ["model", "digest", "precision", "provider"],
            registry=registry,
        )

        # What every request asks for, found without checking the labels each time.
        self._requests = cache(lambda route, status: self.requests.labels(route, str(status)))

    def record_request(
        self, route: str, status: int, timing: Timing, error_code: str | None, trace_id: str | None = None
    ) -> None:
        """Count a response and observe its stages; `trace_id` becomes the exemplar of its duration."""
        self._requests(route, status).inc()
        self.request_seconds.labels(route).observe(timing.total_s(), {"trace_id": trace_id} if trace_id else None)
        for stage, seconds in tuple(timing.stages.items()):
            self.stage_seconds.labels(stage).observe(seconds)
        if error_code is not None:
            self.rejections.labels(error_code).inc()

    def record_batch(self, tower: str, items: int) -> None:
        """Count one batch that a tower has run."""
        self.batch_items.labels(tower).observe(items)
        self.inference_items.labels(tower).inc(items)
        self.inference_executions.labels(tower).inc()

    def record_halving(self, tower: str) -> None:
        """Count that a tower had no memory for a batch."""
        self.out_of_memory.labels(tower).inc()

    def record_device_memory(self, total: int, free: int) -> None:
        """Set the bytes of the GPU."""
        self.device_memory_bytes.labels("total").set(total)
        self.device_memory_bytes.labels("free").set(free)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition of this process and its content type."""
        return render(self.registry, accept)


def render(collector: Collector, accept: str = "") -> tuple[bytes, str]:
    """The exposition and its content type: OpenMetrics, which alone has exemplars, where `accept` asks for it."""
    if "application/openmetrics-text" in accept:
        content: bytes = openmetrics.generate_latest(collector)  # type: ignore[no-untyped-call]
        return content, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(collector), CONTENT_TYPE_LATEST
