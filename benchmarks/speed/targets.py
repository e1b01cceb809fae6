"""What was promised, and what a run measured of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.speed.ratios import lone_overhead_ms, ratio, share
from benchmarks.speed.record import Record, Spread

EXACT, INT8, SMALL = "ViT-B-32 fp32", "ViT-B-32-int8", "sightword-small fp32"


@dataclass(frozen=True)
class Target:
    """One promise: `measured` is to be `bound` or more, or with `at_most` no more than that."""

    what: str
    bound: float
    measured: Spread | None
    at_most: bool = False
    unit: str = "x"

    @property
    def met(self) -> str:
        """By the median."""
        if self.measured is None:
            return "not measured"
        median = self.measured.median
        return "met" if (median <= self.bound if self.at_most else median >= self.bound) else "**missed**"


def targets(record: Record) -> list[Target]:
    """All of them, in the order of the promises."""
    return [*_of_the_limit(record), *_beside_others(record), *_others(record)]


def _of_the_limit(record: Record) -> Iterator[Target]:
    bound = {EXACT: {"D": 0.97, "E": 0.93, "F": 0.90}, SMALL: {"D": 0.90, "E": 0.60, "F": 0.50}}
    for model, rungs in bound.items():
        for rung, least in rungs.items():
            yield Target(f"{model}: {rung} / limit, pictures", least, share(record, model, "640x480", rung))
    for model in bound:
        of_bare = share(record, model, "texts", "F")
        yield Target(f"{model}: texts, HTTP / bare best batch, 32 clients", 0.85, of_bare)
    for model in bound:
        over = lone_overhead_ms(record, model)
        yield Target(f"{model}: lone request over decode + bare run", 2.0, over, at_most=True, unit=" ms")


def _beside_others(record: Record) -> Iterator[Target]:
    for model, precision, bound in ((EXACT, "fp32", (2.6, 2.8)), (INT8, "int8", (2.3, 3.2))):
        for kind, least in zip(("pictures", "texts"), bound, strict=True):
            what = f"{model}: {kind}/s against the fastest peer in {precision}, 32 clients"
            yield Target(what, least, _beside(record, model, kind, precision))


def _beside(record: Record, ours: str, kind: str, precision: str) -> Spread | None:
    reading = f"beside/{kind}/32"
    peers = [name for name, facts in record.facts.items() if facts.get("precision") == precision]
    measured = [(name, reading) for name in peers if record.values(name, reading)]
    if not measured:
        return None
    return record.combined(lambda our, *theirs: our / max(theirs), (ours, reading), *measured)


def _others(record: Record) -> Iterator[Target]:
    hit = ratio(record, ("", "cache/picture/hit"), ("", "cache/picture/empty"))
    yield Target("cache hit by raw body, against an empty FastAPI route", 0.6, hit)
    for model in (EXACT, SMALL):
        faster = ratio(record, (model, "camera/plain_ms"), (model, "camera/ours_ms"))
        yield Target(f"{model}: 12 MP JPEG, decode + resize against plain Pillow", 4.0, faster)
        yield Target(f"{model}: the same, cosine", 0.999, record.spread(model, "camera/cosine"), unit="")
    yield Target("start to ready", 2.0, record.spread(SMALL, "start/s"), at_most=True, unit=" s")
    for model in (EXACT, SMALL):
        over = record.combined(_megabytes_over, (model, "memory/service_mib"), (model, "memory/bare_mib"))
        yield Target(f"{model}: resident memory over bare sessions", 120.0, over, at_most=True, unit=" MB")


def _megabytes_over(mine_mib: float, bare_mib: float) -> float:
    return (mine_mib - bare_mib) * 2**20 / 1e6
