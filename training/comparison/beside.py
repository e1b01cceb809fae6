"""Two runs side by side: curves, settings that differ, scores, what one finds and the other mistakes, and costs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.embedder import Embedder
from model.files import write_atomically
from training.comparison.disagreements import SAME_MISTAKE, SHOWN, Answers, AnswersCollector, disagreements
from training.comparison.run_record import RunRecord, read_run, to_plain
from training.comparison.statistics import Figure, Measured, read_figures
from training.comparison.text_table import format_value
from training.config import ConfigError
from training.config.merging import changed_fields
from training.evaluation.datasets import DatasetSpec
from training.evaluation.evaluator import EvaluationOptions, evaluate
from training.open_bundle import open_bundle
from training.report.curves import curves_of_two
from training.report.pages import stylesheet, templates

ABSENT = "not there"
LONGEST_SETTING = 400  # characters of a value that are shown
BEYOND, WITHIN = "beyond the intervals", "within the intervals"


@dataclass(frozen=True)
class Row:
    """A figure of both runs, in its unit; None where a run does not have it. `difference` is first less second.

    `verdict` says of a score whether its difference is larger than the intervals: they do not touch.
    """

    figure: Figure
    values: tuple[float | None, float | None]
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)
    verdict: str = ""

    @property
    def difference(self) -> float | None:
        """None where the two were not measured on the same, or one was not measured."""
        first, second = self.values
        return None if first is None or second is None or self.verdict.startswith("not") else first - second


def write_beside(
    run: Path, other: Path, output: Path, specs: Sequence[DatasetSpec] = (), options: EvaluationOptions | None = None
) -> Path:
    """Write the page that lays the runs in two folders side by side; returns `output`.

    With `specs` both are measured on these, now, and pictures are shown; without, the scores are those of each run's
    results.json. Raises ConfigError, OSError, and what the evaluation raises.
    """
    if run.resolve() == other.resolve():
        raise ConfigError(f"--beside {other} is the run itself: name another one")
    runs = [read_run(folder, name) for folder, name in zip((run, other), _names(run, other), strict=True)]
    measured = [_measure(each, specs, options or EvaluationOptions()) for each in runs] if specs else []
    results = [results for results, _ in measured] if specs else [_read_results(each) for each in runs]
    shown, refused = disagreements(*(answers for _, answers in measured)) if measured else ([], {})
    context = {
        "runs": runs,
        "curves": curves_of_two(runs[0].steps, runs[1].steps),
        "settings": list(settings_that_differ(*(each.settings for each in runs))),
        "scores": list(score_rows(*results)),
        "costs": list(_rows(_costs(runs[0]), _costs(runs[1]))),
        "measured_now": bool(specs),
        "disagreements": shown,
        "refused": refused,
        "shown": SHOWN,
        "same_mistake": SAME_MISTAKE,
        "format": format_value,
    }
    page = templates().get_template("beside.html.j2").render(**context, style=stylesheet())
    with write_atomically(output) as draft:
        draft.write_text(page, "utf-8")
    return output


def settings_that_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The dotted name of each field that has another value, and both values."""
    old, new = dict(changed_fields(first)), dict(changed_fields(second))
    for name in dict.fromkeys([*old, *new]):
        first_value, second_value = (
            _shorten(json.dumps(each[name], ensure_ascii=False)) if name in each else ABSENT for each in (old, new)
        )
        if name not in old or name not in new or old[name] != new[name]:
            yield name, first_value, second_value


def score_rows(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each figure of the results of either run, in the form of results.json."""
    by_task = [{(each["dataset"], each["task"]): each for each in results} for results in (first, second)]
    for key in dict.fromkeys([*by_task[0], *by_task[1]]):
        records = [each[key] for each in by_task if key in each]
        unlike = ""
        for what in ("pictures", "choices"):
            if len(records) == 2 and records[0][what] != records[1][what]:
                unlike = unlike or f"not the same {what}: {records[0][what]:,} and {records[1][what]:,}"
        yield from _rows(_figures(by_task[0].get(key)), _figures(by_task[1].get(key)), unlike)


def _figures(result: Mapping[str, Any] | None) -> Measured:
    return read_figures({"results": [result] if result else [], "costs": {}})


def _costs(run: RunRecord) -> Measured:
    return read_figures({"results": [], "costs": run.costs})


def _rows(first: Measured, second: Measured, unlike: str = "") -> Iterator[Row]:
    found = [{(each.title, each.task, each.metric): (each, *values[each]) for each in values}
             for values in (first, second)]  # fmt: skip
    for key in dict.fromkeys([*found[0], *found[1]]):
        cells = [each.get(key) for each in found]
        figure = next(cell[0] for cell in cells if cell)
        values = [cell[1] if cell else None for cell in cells]
        intervals = [_finite(cell[2]) if cell else None for cell in cells]
        one, other = intervals
        verdict = unlike or ("not measured of both" if None in values and not figure.is_cost else "")
        if not verdict and one is not None and other is not None:
            verdict = BEYOND if one[0] > other[1] or other[0] > one[1] else WITHIN
        yield Row(figure, (values[0], values[1]), (one, other), verdict)


def _finite(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval if interval is not None and all(map(math.isfinite, interval)) else None


def _measure(
    run: RunRecord, specs: Sequence[DatasetSpec], options: EvaluationOptions
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Answers]]:
    bundle = run.folder / "bundle"
    with open_bundle(bundle if bundle.exists() else run.folder) as opened:
        collector = AnswersCollector(Embedder(opened))
        results = evaluate(collector.embedder, specs, options, collector)
    return [to_plain(result) for result in results], collector.answers


def _read_results(run: RunRecord) -> Sequence[Mapping[str, Any]]:
    if run.results is None:
        raise ConfigError(
            f"{run.folder} has no results yet: say what both are measured on by --config FILE or --data, or wait"
        )
    return run.results


def _names(run: Path, other: Path) -> tuple[str, str]:
    """Those of the folders, with as much of their paths as tells them apart."""
    first, second = run.resolve().parts, other.resolve().parts
    for kept in range(1, max(len(first), len(second))):
        names = "/".join(first[-kept:]), "/".join(second[-kept:])
        if names[0] != names[1]:
            return names
    return str(run), str(other)


def _shorten(text: str) -> str:
    left_out = len(text) - LONGEST_SETTING
    return text if left_out <= 0 else f"{text[:LONGEST_SETTING]}… ({left_out:,} more characters)"
