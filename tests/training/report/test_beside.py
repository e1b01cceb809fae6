"""Two runs on one page: what is on it is what the runs wrote, and what is no run is refused by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model.bundle import Bundle
from model.embedder import Embedder
from tests.training.report.conftest import TwoRuns
from tests.training.report.test_report import HOSTILE, Page
from training.__main__ import app
from training.comparison.beside import BEYOND, WITHIN, score_rows, settings_that_differ
from training.comparison.disagreements import SAME_MISTAKE, SHOWN, Answers, AnswersCollector, disagreements
from training.evaluation.datasets import parse_dataset
from training.evaluation.evaluator import EvaluationOptions, evaluate
from training.evaluation.intervals import paired_difference


def report(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def text_of(page: Path) -> str:
    return " ".join(Page(page.read_text("utf-8")).text.split())


def test_the_page_holds_both_runs_as_they_ended(runs: TwoRuns) -> None:
    assert "report-beside-first.html" in report(runs.second, "--beside", runs.first)
    html = (runs.second / "report-beside-first.html").read_text("utf-8")
    text = text_of(runs.second / "report-beside-first.html")
    for run in (runs.first, runs.second):
        [result] = json.loads((run / "results.json").read_text())
        low, high = result["interval_95"]
        assert f"{100 * result['metrics']['acc1']:.1f} {100 * low:.1f} to {100 * high:.1f}" in text
        peak = json.loads((run / "peak_memory.json").read_text())["memory_bytes"]
        assert f"{peak / 2**20:,.0f}" in text
    assert "second: 12 steps of 32 pictures. first: 4 steps of 32." in text
    assert '<th scope="row">steps</th><td>12</td><td>4</td>' in html
    assert "The pictures are not in the folders of the runs" in text
    assert html.count("stroke: var(--accent)") >= html.count("<svg") >= 5
    assert html.count("stroke: var(--other)") >= html.count("<svg")  # both runs in each figure
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html)
    assert (runs.second / "report.html").exists()


def test_pictures_that_one_finds_are_those_that_the_scores_say(runs: TwoRuns, colours: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report(runs.second, "--beside", runs.first, "--config", runs.config, "--output", page)
    right = []
    for run in (runs.second, runs.first):
        collector = AnswersCollector(Embedder(Bundle.load(run / "bundle")))
        spec = parse_dataset(f"colours={colours}/test-0.tar", Path("/"))
        evaluate(collector.embedder, [spec], EvaluationOptions(), collector)
        right.append(collector.answers["colours"].predicted == collector.answers["colours"].truth)
    one, other = right
    counts = int((one & other).sum()), int((one & ~other).sum()), int((other & ~one).sum()), int((~one & ~other).sum())
    text = text_of(page)
    assert (
        f"Of the same 40 pictures both get {counts[0]} right, second alone {counts[1]}, first alone {counts[2]}, "
        f"neither {counts[3]}: {100 * (one.mean() - other.mean()):+.1f} points"
    ) in text
    shown = sum(tag == "img" for tag, _ in Page(page.read_text("utf-8")).elements)
    assert 1 <= shown <= min(counts[1], SHOWN) + min(counts[2], SHOWN)
    by_data = tmp_path / "data.html"
    report(runs.second, "--beside", runs.first, "--data", f"set={colours}/test-0.tar", "--output", by_data)
    assert f"set Of the same 40 pictures both get {counts[0]} right" in text_of(by_data)


def test_what_is_no_run_is_named(runs: TwoRuns, tmp_path: Path) -> None:
    assert "is the run itself" in report(runs.first, "--beside", runs.first, code=1)
    assert f"{tmp_path} is not the folder of a run: there is no config.json" in report(
        runs.first, "--beside", tmp_path, code=1
    )
    both = ("--config", runs.config, "--data", "x")
    assert "give one of them" in report(runs.second, "--beside", runs.first, *both, code=1)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"[]", "config.json is not what a run writes"),
        ("config.json", b'{"batch_size": 0}', "batch_size: Input should be greater than 0"),
        ("metrics.jsonl", b'{"step": 1, "samples_per_s": 0}\n', "0.samples_per_s: Input should be greater than 0"),
        ("metrics.jsonl", b"[" * 100_000 + b"\n", "metrics.jsonl is not what a run writes"),
        ("metrics.jsonl", b"", "has not done its first step yet"),
        ("results.json", b'[{"dataset": "x"}]', "results.json is not what a run writes: 0.task"),
        ("results.json", b"\xff", "results.json is not what a run writes"),
        ("peak_memory.json", b'{"memory_bytes": "much"}', "peak_memory.json is not what a run writes"),
        ("results.json", None, "has no results yet: say what both are measured on by --config FILE or --data"),
    ],
)
def test_a_file_that_is_not_what_a_run_writes_is_named(
    runs: TwoRuns, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    other = shutil.copytree(runs.first, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints", "bundle"))
    (other / name).unlink()
    if content is not None:
        (other / name).write_bytes(content)
    assert told in report(runs.second, "--beside", other, "--output", tmp_path / "page.html", code=1)
    assert not (tmp_path / "page.html").exists()


def test_a_run_that_still_trains_is_measured_and_hostile_names_stay_text(runs: TwoRuns, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    other = shutil.copytree(runs.first, folder, ignore=shutil.ignore_patterns("checkpoints", "bundle", "results.json"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "templates": [f"{HOSTILE[0]} {{}}"]}))
    with (other / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "los')  # a line that is being written
    page = tmp_path / "page.html"
    report(runs.second, "--beside", other, "--config", runs.config, "--output", page)
    found = Page(page.read_text("utf-8"))
    assert folder.name in found.text
    assert HOSTILE[0] in found.text
    assert "script" not in [tag for tag, _ in found.elements]
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "4 steps of 32." in " ".join(found.text.split())
    (other / "config.json").write_text(json.dumps({**config, "steps": "many"}))
    told = report(runs.second, "--beside", other, "--config", runs.config, "--output", page, code=1)
    assert "config.json is not a configuration of this version" in told


def result(value: float, interval: tuple[float, float], **fields: Any) -> dict[str, Any]:
    return {
        "dataset": "set", "task": "zeroshot_classification", "headline": "acc1", "interval_95": interval,
        "metrics": {"acc1": value}, "pictures": 100, "choices": 4, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "difference", "verdict"),
    [
        (result(0.8, (0.71, 0.87)), result(0.6, (0.5, 0.69)), 20.0, BEYOND),
        (result(0.6, (0.5, 0.69)), result(0.8, (0.71, 0.87)), -20.0, BEYOND),
        (result(0.8, (0.71, 0.87)), result(0.7, (0.6, 0.78)), 10.0, WITHIN),
        (result(0.8, (0.7, 0.9)), result(0.1, (0.0, 0.2), pictures=50), None, "not the same pictures: 100 and 50"),
        (result(0.8, (0.7, 0.9)), result(0.1, (0.0, 0.2), choices=9), None, "not the same choices: 4 and 9"),
        (result(0.8, (float("nan"),) * 2), result(0.1, (0.0, 0.2)), 70.0, ""),
    ],
)
def test_a_difference_is_judged_by_the_intervals(
    first: dict[str, Any], second: dict[str, Any], difference: float | None, verdict: str
) -> None:
    [row] = score_rows([first], [second])
    assert row.verdict == verdict
    assert row.difference == (None if difference is None else pytest.approx(difference))
    [alone] = score_rows([first], [])
    assert (alone.difference, alone.verdict) == (None, "not measured of both")


def test_settings_that_differ_are_named_with_both_values() -> None:
    first = {"same": 1, "optimizer": {"learning_rate": 0.1, "new": None}, "list": [1, 2], "long": "x" * 500}
    second = {"same": 1, "optimizer": {"learning_rate": 0.2}, "list": [1, 3], "long": "y"}
    assert list(settings_that_differ(first, second)) == [
        ("optimizer.learning_rate", "0.1", "0.2"),
        ("optimizer.new", "null", "not there"),
        ("list", "[1, 2]", "[1, 3]"),
        ("long", '"' + "x" * 399 + "… (102 more characters)", '"y"'),
    ]


def answers(predicted: list[int], classes: tuple[str, ...] = ("a", "b", "c")) -> Answers:
    from tests.training.conftest import picture

    pictures = [lambda: picture("red", 0)] * len(predicted)
    truth = np.zeros(len(predicted), np.int64)
    scores = np.linspace(0.5, 0.9, len(predicted))
    return Answers(pictures, classes, truth, np.array(predicted), scores)  # type: ignore[arg-type]


def test_the_surest_disagreements_are_shown_few_of_each_kind() -> None:
    [found], refused = disagreements({"set": answers([0] * 20 + [1])}, {"set": answers([1] * 12 + [2] * 8 + [0])})
    assert not refused
    assert (found.both, found.only_first, found.only_second, found.neither) == (0, 20, 1, 0)
    assert [each.said for each in found.first_right] == ["c"] * SAME_MISTAKE + ["b"] * SAME_MISTAKE
    assert found.first_right[0].score == pytest.approx(0.88)
    assert [each.said for each in found.second_right] == ["b"]
    assert found.is_beyond_chance
    others = {"set": answers([0], ("a", "b")), "alone": answers([0])}
    assert list(disagreements({"set": answers([0])}, others)[1]) == ["set", "alone"]


def test_the_paired_interval_is_agrestis_and_holds_what_many_draws_give() -> None:
    """Table 1 of Agresti and Min 2005 has 150 and 86 of 1,600 who changed their minds; by their formula."""
    low, high = paired_difference(150, 86, 1600)
    assert (low, high) == (pytest.approx(0.0212, abs=1e-4), pytest.approx(0.0587, abs=1e-4))
    assert paired_difference(0, 0, 10) == (pytest.approx(-0.163, abs=1e-3), pytest.approx(0.163, abs=1e-3))
    rng = np.random.default_rng(0)
    draws = rng.multinomial(200, [0.1, 0.05, 0.85], 2000)
    held = [low <= 0.05 <= high for low, high in (paired_difference(b, c, 200) for b, c, _ in draws.tolist())]
    assert 0.93 < np.mean(held) < 0.98
