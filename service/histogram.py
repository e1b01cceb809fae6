"""A histogram for what the event loop alone observes: without the locks and checks of prometheus_client's own.

Those take as long for the stages of a request as all else that is reported of it. What `collect` gives is the same.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Series:
    """What was observed under one label."""

    __slots__ = ("_bounds", "counts", "created", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the largest values that belong to each bucket; the last is infinity."""
        self._bounds, self.counts, self.sum = bounds, [0] * len(bounds), 0.0
        self.created = time.time()
        self.exemplars: dict[int, Exemplar] = {}  # the last one of each bucket

    def observe(self, value: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a value; on the event loop only. `exemplar` are the labels of what it came from."""
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(exemplar, value, time.time())


class LoopHistogram(Collector):
    """A Prometheus histogram with one label."""

    def __init__(
        self, name: str, documentation: str, label: str, buckets: Iterable[float], registry: CollectorRegistry
    ) -> None:
        """Registered with `registry`; `buckets` are in order."""
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = [*buckets, math.inf]
        self._les = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> Series:
        """The series of this value of the label."""
        if (series := self._series.get(value)) is None:
            series = self._series[value] = Series(self._bounds)
        return series

    def describe(self) -> Iterable[Metric]:
        """Its name alone, so that no other metric takes it."""
        return [Metric(self._name, self._documentation, "histogram")]

    def collect(self) -> Iterable[Metric]:
        """All series, as prometheus_client's own histogram gives them."""
        metric = Metric(self._name, self._documentation, "histogram")
        for value, series in self._series.items():
            labels = {self._label: value}
            counts = list(accumulate(series.counts))
            for bucket, (le, count) in enumerate(zip(self._les, counts, strict=True)):
                exemplar = series.exemplars.get(bucket)
                metric.add_sample(f"{self._name}_bucket", {**labels, "le": le}, count, exemplar=exemplar)
            metric.add_sample(f"{self._name}_count", labels, counts[-1])
            metric.add_sample(f"{self._name}_sum", labels, series.sum)
            metric.add_sample(f"{self._name}_created", labels, series.created)
        return [metric]
