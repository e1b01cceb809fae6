"""The Prometheus samples of several processes as those of one service.

prometheus_client's own multiprocess mode is not used: it wants an environment variable set before it is first imported
and a folder of files, one a process and kind, that somebody has to empty; in it gauges have no functions, which most
of ours have, and no `clear`; custom collectors such as that of `process_*` are left out, and so are exemplars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

# A family as JSON: [name, documentation, type, [[sample name, {label: value}, value, exemplar or None], ...]]
Families = list[list[Any]]

# How the gauges of workers become one. Counters and histograms are added up, and of when they began, the first counts.
GAUGES: Mapping[str, Callable[[Iterable[float]], float]] = {
    "sightword_queue_items": sum,
    "sightword_queue_bytes": sum,
    "sightword_queue_items_limit": max,  # of the service, and the same in each
    "sightword_queue_bytes_limit": max,
    "sightword_ready": max,  # requests may be sent as long as one takes them
    "sightword_cache_bytes": max,  # of the memory that all share
    "sightword_redis_up": min,
    "sightword_redis_writable": min,
    "sightword_max_batch": min,
    "sightword_device_memory_bytes": min,  # of the one GPU that all are on, a moment apart
    "sightword_model_info": max,
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_start_time_seconds": min,
    "process_open_fds": sum,
    "process_max_fds": sum,
}


def dump(registry: CollectorRegistry) -> Families:
    """All samples of a process, as JSON can carry them."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [
                [sample.name, sample.labels, _as_json(sample.value), sample.exemplar and [*sample.exemplar]]
                for sample in family.samples
            ],
        ]
        for family in registry.collect()
    ]


def _as_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def counters(families: Families) -> Families:
    """Those that only grow, and must not fall when a process ends or does not answer."""
    return [family for family in families if family[2] in ("counter", "histogram")]


def merge(dumps: Iterable[Families]) -> Families:
    """As one: what they have in common by its rule, and what only some have, too."""
    merged: dict[str, tuple[str, str, dict[Any, list[Any]]]] = {}
    for families in dumps:
        for name, documentation, kind, samples in families:
            series = merged.setdefault(name, (documentation, kind, {}))[2]
            for sample, labels, value, exemplar in samples:
                found = series.setdefault((sample, *labels.items()), [labels, [], None])
                found[1].append(float(value))
                found[2] = _later(found[2], exemplar)
    return [
        [name, documentation, kind, [
            [key[0], labels, _as_json(_rule(name, kind, key[0])(values)), exemplar]
            for key, (labels, values, exemplar) in series.items()
        ]]
        for name, (documentation, kind, series) in merged.items()
    ]  # fmt: skip


def _rule(family: str, kind: str, sample: str) -> Callable[[Iterable[float]], float]:
    if sample.endswith("_created"):
        return min
    return GAUGES.get(family, sum) if kind == "gauge" else sum


def _later(one: Any, other: Any) -> Any:
    """Of two exemplars, [labels, value, seconds since 1970] or None, the later."""
    return other if one is None or (other is not None and other[2] > one[2]) else one


class Collected(Collector):
    """Families as prometheus_client renders them."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Each family."""
        for name, documentation, kind, samples in self._families:
            metric = Metric(name, documentation, kind)
            metric.samples = [
                Sample(sample, labels, float(value), None, Exemplar(*exemplar) if exemplar else None)
                for sample, labels, value, exemplar in samples
            ]
            yield metric
