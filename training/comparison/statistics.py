"""Figures of all runs and seeds: means, what the seeds span, and differences to the first run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.comparison.supervisor import Outcome
from training.evaluation.intervals import wilson
from training.report.tables import metric_name

MORE_METRICS = {
    "robustness": ("acc1_lost",),
    "zeroshot_retrieval": ("image_retrieval_recall@1",),
    "paraphrase": ("jaccard@10", "average_overlap@10_of_others"),
}  # beside the headline
TASK_NAMES = {"zeroshot_classification": "zero-shot", "zeroshot_retrieval": "retrieval"}
COSTS = {  # by their names in measured.json: title, unit, and what the unit is divided by
    "training_s": ("training", "s", 1.0),
    "step_s": ("a step", "ms", 1e-3),
    "memory_bytes": ("peak memory", "MiB", 2.0**20),
    "gpu_memory_bytes": ("GPU memory", "MiB", 2.0**20),
    "parameters": ("parameters", "M", 1e6),
    "bundle_bytes": ("bundle", "MB", 1e6),
    "image_ms": ("a picture", "ms", 1.0),
    "text_ms": ("a text", "ms", 1.0),
}


@dataclass(frozen=True)
class Figure:
    """A column: what was measured, by which task and metric; `unit` is % of all but costs."""

    title: str
    task: str
    metric: str
    unit: str = "%"
    images: int = 0  # pictures that it was measured on, none of a cost
    headline: bool = False  # the one figure of its data set and task

    @property
    def is_cost(self) -> bool:
        """Whether it says what a run costs, and not how good it is."""
        return self.task == "cost"


@dataclass(frozen=True)
class Cell:
    """A figure of a run, in its unit. Of one seed there is no range.

    `difference` is the mean of those to the first run by seed, over the seeds that both have. `stands_out` says that it
    is larger than what each of both runs spans over its seeds and than half of `interval`, which is the 95 % interval
    by pictures, the mean of the seeds', and that no seed of the one is among those of the other.
    """

    values: tuple[float, ...]
    interval: tuple[float, float] | None
    difference: float | None = None
    stands_out: bool = False

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        """Of the seeds."""
        return min(self.values)

    @property
    def high(self) -> float:
        """Of the seeds."""
        return max(self.values)


@dataclass(frozen=True)
class Table:
    """`cells` by run and figure; one that could not be measured is not there."""

    runs: Sequence[str]
    figures: Sequence[Figure]
    cells: Mapping[tuple[str, Figure], Cell]


Measured = dict[Figure, tuple[float, tuple[float, float] | None]]  # value and interval by pictures, in its unit


def tabulate(runs: Sequence[str], outcomes: Sequence[Outcome]) -> Table:
    """The table of all outcomes that were measured."""
    by_run: dict[str, dict[int, Measured]] = {run: {} for run in runs}
    for outcome in outcomes:
        if outcome.record is not None:
            by_run[outcome.planned.run][outcome.planned.seed] = read_figures(outcome.record)
    _add_means(by_run, by_run[runs[0]])
    figures = list(dict.fromkeys(f for seeds in by_run.values() for measured in seeds.values() for f in measured))
    figures.sort(key=lambda figure: (figure.is_cost, figure.task != "mean"))
    cells = {}
    for run in runs:
        for figure in figures:
            cell = _cell(by_run[run], by_run[runs[0]] if run != runs[0] else {}, figure)
            if cell is not None:
                cells[run, figure] = cell
    return Table(runs, figures, cells)


def read_figures(record: Mapping[str, Any]) -> Measured:
    """The figures of `results` and `costs` as measured.json has them."""
    found: Measured = {}
    for result in record["results"]:
        task = TASK_NAMES.get(result["task"], result["task"].replace("_", " "))
        for metric in (result["headline"], *MORE_METRICS.get(result["task"], ())):
            if metric in result["metrics"]:
                headline = metric == result["headline"]
                figure = Figure(result["dataset"], task, metric_name(metric), "%", result["pictures"], headline)
                found[figure] = 100 * result["metrics"][metric], _interval(result, metric)
    for name, (title, unit, scale) in COSTS.items():
        if name in record["costs"]:
            found[Figure(title, "cost", name, unit)] = record["costs"][name] / scale, None
    return found


def _interval(result: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    if metric == result["headline"]:
        low, high = result["interval_95"]
    elif metric.startswith("image_retrieval"):
        low, high = wilson(result["metrics"][metric], result["choices"])
    else:
        return None
    return 100 * low, 100 * high


def _add_means(by_run: Mapping[str, dict[int, Measured]], first: Mapping[int, Measured]) -> None:
    """The mean over the data sets of a task of which the first run has several; not of a run that lacks one of them.

    What knows some of the classes only is measured on fewer pictures of a data set, which is another figure.
    """
    groups: dict[str, list[Figure]] = {}
    for figure in dict.fromkeys(figure for measured in first.values() for figure in measured):
        if figure.headline:
            groups.setdefault(figure.task, []).append(figure)
    for task, figures in groups.items():
        if len(figures) < 2:
            continue
        images = sum(figure.images for figure in figures)
        mean = Figure(f"mean of {len(figures)} sets", "mean", task, images=images)
        for seeds in by_run.values():
            for measured in seeds.values():
                if all(figure in measured for figure in figures):
                    measured[mean] = _mean_of([measured[figure] for figure in figures])


def _mean_of(
    figures: Sequence[tuple[float, tuple[float, float] | None]],
) -> tuple[float, tuple[float, float] | None]:
    """Half of the interval of a mean over data sets, whose pictures are others: root of the sum of squares, by n."""
    mean = sum(value for value, _ in figures) / len(figures)
    halves = [(interval[1] - interval[0]) / 2 for _, interval in figures if interval is not None]
    if len(halves) < len(figures):
        return mean, None
    half = math.hypot(*halves) / len(figures)
    return mean, (mean - half, mean + half)


def _cell(own: Mapping[int, Measured], first: Mapping[int, Measured], figure: Figure) -> Cell | None:
    """`first` are the seeds of the run that is compared with, none for itself."""
    found = {seed: measured[figure] for seed, measured in own.items() if figure in measured}
    if not found:
        return None
    values = tuple(value for value, _ in found.values())
    intervals = [interval for _, interval in found.values() if interval is not None]
    interval = _mean_interval(intervals) if intervals else None
    others = {seed: measured[figure][0] for seed, measured in first.items() if figure in measured}
    pairs = [(found[seed][0], others[seed]) for seed in found if seed in others]
    if not pairs:
        return Cell(values, interval)
    difference = sum(own_value - other for own_value, other in pairs) / len(pairs)
    # Of costs none does, as the times are of a machine that may be busy.
    stands_out = interval is not None and _stands_out(values, tuple(others.values()), difference, interval)
    return Cell(values, interval, difference, stands_out)


def _mean_interval(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(low for low, _ in intervals) / len(intervals), sum(high for _, high in intervals) / len(intervals)


def _stands_out(
    own: Sequence[float], others: Sequence[float], difference: float, interval: tuple[float, float]
) -> bool:
    if len(own) < 2 or len(others) < 2:  # nothing is known of how far seeds are apart
        return False
    spans = [max(own) - min(own), max(others) - min(others)]
    apart = min(own) > max(others) or max(own) < min(others)
    return apart and abs(difference) > max(*spans, (interval[1] - interval[0]) / 2)
