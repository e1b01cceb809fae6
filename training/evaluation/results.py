"""Results: of one task on one data set, before and after training further, and as JSON in CLIP_benchmark's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

# As --task names them.
TASKS = ("zeroshot", "retrieval", "linear-probe", "few-shot", "transfer", "robustness", "paraphrase")
HELD_OUT = "held-out training pictures"


@dataclass(frozen=True)
class Result:
    """Figures are shares in [0, 1]; `interval` is the 95 % interval of `metrics[headline]` from n alone."""

    dataset: str
    task: str  # zeroshot_classification, zeroshot_retrieval, linear_probe, few_shot, transfer, robustness, paraphrase
    images: int
    choices: int  # classes, or distinct texts
    headline: str
    interval: tuple[float, float]
    metrics: Mapping[str, float]
    per_class: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)  # what was chosen on the way: C, templates
    skipped: Mapping[str, int] = field(default_factory=dict)  # samples that are not among the images, by reason

    @property
    def value(self) -> float:
        """The headline figure."""
        return self.metrics[self.headline]


@dataclass(frozen=True)
class Comparison:
    """One figure, before and after, as shares in [0, 1]."""

    dataset: str
    metric: str
    images: int
    before: float
    after: float

    @property
    def points(self) -> float:
        """By how many percentage points it rose."""
        return 100 * (self.after - self.before)

    @property
    def is_worse(self) -> bool:
        """Whether it fell."""
        return self.after < self.before

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {100 * self.before:.1f} % before, {100 * self.after:.1f} % after, "
            f"{self.points:+.1f} points"
        )


def compare_results(before: Sequence[Result], after: Sequence[Result]) -> list[Comparison]:
    """The headline metric of each task and data set that was measured both times, in the order of `after`."""
    earlier = {(result.dataset, result.task): result for result in before}
    return [
        Comparison(result.dataset, result.headline, result.images, earlier[key].value, result.value)
        for result in after
        if (key := (result.dataset, result.task)) in earlier
    ]


def to_record(result: Result, model: str, digest: str) -> dict[str, Any]:
    """The record that CLIP_benchmark 1.6 writes, and beside its fields what it lacks."""
    return {
        "dataset": result.dataset,
        "model": model,
        "pretrained": digest,
        "task": result.task,
        "metrics": {name: round(value, 6) for name, value in result.metrics.items()},
        "language": "en",
        "headline": result.headline,
        "interval_95": [round(bound, 6) for bound in result.interval],
        "pictures": result.images,
        "choices": result.choices,
        "per_class": {name: round(value, 6) for name, value in result.per_class.items()},
        "settings": dict(result.settings),
        "skipped": dict(result.skipped),
    }


def write_results(results: Sequence[Result], model: str, digest: str, to: Path) -> None:
    """A folder gets a file for each result, as `clip_benchmark build` reads them; a name ending in .json a list."""
    records = [to_record(result, model, digest) for result in results]
    if to.suffix == ".json":
        to.write_text(json.dumps(records, indent=2) + "\n", "utf-8")
        return
    to.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for record in records:
        name = "_".join(str(record[part]) for part in ("dataset", "model", "task"))
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name).lstrip(".-")
        if safe.casefold() in written:  # of another name that differs only in what a file name cannot hold
            safe = next(f"{safe}-{number}" for number in count(2) if f"{safe}-{number}".casefold() not in written)
        written.add(safe.casefold())
        (to / f"{safe}.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
