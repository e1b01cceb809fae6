"""The histogram of the event loop shows what prometheus_client's own would."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from service.histogram import LoopHistogram

BUCKETS = (0.001, 0.01, 0.5, 1)


def exposition(registry: CollectorRegistry) -> list[str]:
    """As OpenMetrics, without the times at which series began and exemplars were seen."""
    lines = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    return [line.rpartition(" ")[0] if "trace_id" in line else line for line in lines]


def test_both_show_the_same() -> None:
    registry, reference = CollectorRegistry(), CollectorRegistry()
    ours = LoopHistogram("seconds", "How long it took.", "stage", BUCKETS, registry)
    theirs = Histogram("seconds", "How long it took.", ["stage"], buckets=BUCKETS, registry=reference)
    rng = random.Random(1)
    values = [*BUCKETS, 0.0, 7.0, *(rng.expovariate(3) for _ in range(200))]  # on the bounds, under and over them
    for number, value in enumerate(values):
        for histogram in (ours, theirs):
            histogram.labels(f"stage {number % 3}").observe(value, {"trace_id": f"{number}"} if number % 5 else None)
    assert exposition(registry) == exposition(reference)
    assert any("trace_id" in line for line in exposition(registry))
    created = [line for line in generate_latest(registry).decode().splitlines() if "_created" in line]
    assert len(created) == 3
