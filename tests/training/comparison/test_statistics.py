"""Figures of runs and seeds: means, ranges, differences by seed, and which of them stand out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training.comparison.comparisons import write_comparison
from training.comparison.config import load_comparison
from training.comparison.statistics import Figure, Table, tabulate
from training.comparison.supervisor import Outcome
from training.comparison.text_table import text_table
from training.evaluation.intervals import wilson


def result(dataset: str, value: float, pictures: int = 10_000, task: str = "zeroshot_classification") -> dict[str, Any]:
    return {
        "dataset": dataset, "task": task, "headline": "acc1", "metrics": {"acc1": value, "acc5": 0.99},
        "interval_95": wilson(value, pictures), "pictures": pictures, "choices": 10,
    }  # fmt: skip


@pytest.fixture
def outcomes_of(colours: Path, tiny: Path, tmp_path: Path) -> Any:
    def build(values: Mapping[str, Mapping[int, list[dict[str, Any]]]], costs: Mapping[str, float] = {}) -> Table:
        seeds = sorted({seed for each in values.values() for seed in each})
        fields = {"runs": {run: {} for run in values}, "seeds": seeds}
        planned = load_comparison(write_comparison(tmp_path, colours, tiny, **fields), tmp_path).trainings
        outcomes = []
        for each in planned:
            found = values[each.run].get(each.seed)
            record = None if found is None else {"results": found, "costs": dict(costs)}
            outcomes.append(Outcome(each, record, "" if found else "it fell over"))
        return tabulate(list(values), outcomes)

    return build


def cell(table: Table, run: str, title: str, metric: str = "top-1") -> Any:
    [figure] = [each for each in table.figures if (each.title, each.metric) == (title, metric)]
    return table.cells[run, figure]


def test_means_ranges_and_differences_are_by_seed(outcomes_of: Any) -> None:
    table = outcomes_of({
        "a": {0: [result("x", 0.40)], 1: [result("x", 0.50)]},
        "b": {0: [result("x", 0.44)], 1: [result("x", 0.56)]},
        "c": {1: [result("x", 0.47)]},
    })  # fmt: skip
    first, second, third = (cell(table, run, "x") for run in "abc")
    assert (first.mean, first.low, first.high, first.difference) == pytest.approx((45, 40, 50, None))
    assert second.difference == pytest.approx((4 + 6) / 2)
    assert third.difference == pytest.approx(-3)  # to the same seed
    assert third.values == pytest.approx((47,))
    low, high = ((wilson(0.40, 10_000)[side] + wilson(0.50, 10_000)[side]) / 2 * 100 for side in (0, 1))
    assert first.interval == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("first", "second", "pictures", "stands_out"),
    [
        ((40.0, 41.0), (44.0, 45.0), 10_000, True),
        ((44.0, 45.0), (40.0, 41.0), 10_000, True),  # also what is worse
        ((40.0, 45.0), (44.0, 49.0), 10_000, False),  # seeds among each other's
        ((40.0, 44.0), (44.1, 47.0), 10_000, False),  # apart, and by less than the seeds of one are
        ((40.0, 41.0), (44.0, 45.0), 100, False),  # by less than other pictures would change it
        ((40.0,), (60.0,), 10_000, False),  # one seed says nothing of seeds
    ],
)
def test_a_difference_stands_out_of_seeds_and_pictures(
    outcomes_of: Any, first: tuple[float, ...], second: tuple[float, ...], pictures: int, stands_out: bool
) -> None:
    values = {
        run: {seed: [result("x", value / 100, pictures)] for seed, value in enumerate(of_run)}
        for run, of_run in (("a", first), ("b", second))
    }
    table = outcomes_of(values)
    assert cell(table, "b", "x").stands_out is stands_out
    assert cell(table, "a", "x").stands_out is False
    assert ("*" in text_table(table).split("Mean over")[0]) is stands_out


def test_means_over_data_sets_are_of_runs_that_have_all_of_them(outcomes_of: Any) -> None:
    both = [result("x", 0.2), result("y", 0.4)]
    table = outcomes_of({"a": {0: both}, "b": {0: [result("x", 0.9)]}})
    assert table.figures[0] == Figure("mean of 2 sets", "mean", "zero-shot", images=20_000)
    assert cell(table, "a", "mean of 2 sets", "zero-shot").mean == pytest.approx(30)
    assert ("b", table.figures[0]) not in table.cells
    low, high = cell(table, "a", "mean of 2 sets", "zero-shot").interval
    halves = [(wilson(value, 10_000)[1] - wilson(value, 10_000)[0]) / 2 for value in (0.2, 0.4)]
    assert (high - low) / 2 == pytest.approx(100 * (halves[0] ** 2 + halves[1] ** 2) ** 0.5 / 2)


def test_what_is_measured_on_fewer_pictures_is_another_figure(outcomes_of: Any) -> None:
    both, fewer = [result("x", 0.2), result("y", 0.4)], [result("x", 0.9, 50), result("y", 0.4)]
    table = outcomes_of({"a": {0: both, 1: both}, "knows-some": {0: fewer, 1: fewer}})
    columns = [(figure.images, {run for run in table.runs if (run, figure) in table.cells}) for figure in table.figures]
    assert columns == [(20_000, {"a"}), (10_000, {"a"}), (10_000, {"a", "knows-some"}), (50, {"knows-some"})]
    assert "50 pictures" in text_table(table)


def test_the_table_of_a_terminal_has_every_figure_in_120_columns(outcomes_of: Any) -> None:
    sets = [result(f"a data set with a name {number}", 0.1 + number / 40) for number in range(12)]
    costs = {"training_s": 63.2, "step_s": 0.2, "memory_bytes": 2.0**30, "parameters": 7.9e6}
    table = outcomes_of({"clip": {0: sets, 1: sets}, "siglip": {0: sets}}, costs)
    text = text_table(table)
    assert max(map(len, text.splitlines())) <= 120
    assert len(table.figures) == 1 + 12 + 4
    assert all(re.search(rf"a data set with a name {number}( |$)", text, re.MULTILINE) for number in range(12))
    assert f"{'long' * 30}"[:30] in text_table(outcomes_of({"clip": {0: [result("long" * 50, 0.5)]}}))
    assert "1,024" in text
    assert "7.9" in text
    rows = [line for line in text.splitlines() if line.startswith("siglip")]
    assert len(rows) == sum(line.startswith("clip") for line in text.splitlines()) > 1
