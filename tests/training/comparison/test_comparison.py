"""Whole comparisons: each run in a process of its own, what fails is told, what was killed goes on, one table."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from model.bundle import Bundle
from model.files import exclusive_lock
from tests.model.language_models import write_sentence_encoder
from tests.training.comparison.comparisons import RUNS, figures_of, write_comparison
from training.__main__ import app
from training.comparison.config import load_comparison
from training.comparison.supervisor import LOCK, is_done, run_all
from training.config import ConfigError
from training.loop.setup import setup

pytestmark = pytest.mark.timeout(1200)  # a dozen processes, on a machine that may be busy
ROOT = Path(__file__).parents[3]
FAILING: dict[str, Any] = {
    "diverging": {"optimizer": {"learning_rate": 1e38, "warmup_steps": 0}},
    "refused": {"objective.teacher": "there-is-none"},
}


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def file(colours: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("comparison"), colours, tiny, runs={**RUNS, **FAILING})


@pytest.fixture(scope="module")
def compared(file: Path) -> Path:
    """The folder of a comparison of four runs, of which two fail."""
    output = file.parent / "compared"
    (file.parent / "told").write_text(run("--config", file, "--output", output))
    return output


def test_every_run_is_trained_exported_and_measured_and_what_fails_leaves_the_others(compared: Path) -> None:
    told = (compared.parent / "told").read_text()
    record = json.loads((compared / "compare.json").read_text())
    [zero_shot] = [each for each in record["figures"] if each["task"] == "zero-shot"]
    assert (zero_shot["title"], zero_shot["pictures"], list(zero_shot["runs"])) == ("colours", 40, ["clip", "siglip"])
    probe = next(each["runs"] for each in record["figures"] if each["task"] == "linear probe")
    assert probe["clip"]["mean"] > 90  # of four colours
    by_metric = {each["metric"]: each["runs"] for each in record["figures"] if each["task"] == "cost"}
    assert {"training_s", "step_s", "memory_bytes", "parameters", "bundle_bytes", "image_ms", "text_ms"} <= set(
        by_metric
    )
    bundle = Bundle.load(compared / "siglip-0" / "bundle")
    assert bundle.id == "siglip-0"
    assert by_metric["parameters"]["siglip"]["mean"] * 1e6 == pytest.approx(
        bundle.manifest.source["parameters"], abs=50
    )
    assert bundle.manifest.scores["colours"]["value"] * 100 == pytest.approx(
        zero_shot["runs"]["siglip"]["mean"], abs=0.01
    )
    assert 100 < by_metric["memory_bytes"]["clip"]["mean"] < 4000
    assert [line.split(":")[0] for line in record["notes"]] == ["diverging, seed 0 FAILED", "refused, seed 0 FAILED"]
    assert "is not finite" in record["notes"][0]
    assert "there-is-none" in record["notes"][1]
    assert all(note in told.replace("\n", " ") for note in record["notes"])
    assert max(map(len, told.split("\n\n", 1)[1].partition("diverging, seed")[0].splitlines())) <= 120
    page = (compared / "report.html").read_text()
    assert "diverging, seed 0 FAILED" in page
    assert page.count("<svg") == 1
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)  # it asks for nothing else


def test_what_was_killed_goes_on_and_ends_with_the_same_table_and_the_same_bits(
    file: Path, compared: Path, colours: Path, tiny: Path, tmp_path: Path
) -> None:
    alike, output = write_comparison(tmp_path, colours, tiny), tmp_path / "killed"
    command = [sys.executable, "-m", "training", "compare", "--config", str(alike), "--output", str(output)]
    comparing = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: steps_in(output / "clip-0") >= 3 or comparing.poll() is not None)
    [worker] = psutil.Process(comparing.pid).children()
    comparing.kill()
    assert comparing.wait() == -signal.SIGKILL
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)  # it dies with its parent
    assert not (output / "clip-0" / "measured.json").exists()

    run("--config", alike, "--output", output)
    assert figures_of(output, *RUNS) == figures_of(compared, *RUNS)
    for name in RUNS:
        one, other = (load_file(each / f"{name}-0" / "best.safetensors") for each in (output, compared))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)

    before = {path: path.stat().st_mtime_ns for path in output.glob("*/measured.json")}
    run("--config", alike, "--output", output)  # nothing is done again
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/measured.json")} == before
    assert "clip: done" in run("--config", alike, "--output", output, "--dry-run")
    with pytest.raises(ConfigError, match=r"run clip, seed 0: .* holds a run with another configuration:\n  steps: 6"):
        run_all(load_comparison(alike, output, ["steps=7"]), output)


def steps_in(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["siglip", "rank"])
def test_every_run_of_a_seed_draws_the_same_batches(colours: Path, tiny: Path, tmp_path: Path, name: str) -> None:
    runs = {"clip": {}, "siglip": {"objective": "sigmoid"}, "rank": {"objective": "rank"}}
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny, runs=runs, seeds=[3, 4]), tmp_path)
    configs = {(each.run, each.seed): each.config for each in comparison.trainings}

    def drawn(run: str, seed: int) -> list[tuple[torch.Tensor, Any]]:
        trainer = setup(configs[run, seed], tmp_path / f"{run}-{seed}", colours)
        chunks = [chunk for step in (0, 4) for chunk in trainer.loader.load(step).micro_batches]
        return [(chunk.images.rgba, [ids.tolist() for ids in chunk.token_ids]) for chunk in chunks]

    expected, same, other = drawn("clip", 3), drawn(name, 3), drawn("clip", 4)
    assert len(expected) == 2
    for (images, texts), (images_again, texts_again) in zip(expected, same, strict=True):
        assert torch.equal(images, images_again)
        assert texts == texts_again
    assert not torch.equal(expected[0][0], other[0][0])


def test_a_dry_run_and_the_options_change_what_they_say(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {
        "clip": {},
        "taught": {"objective.teacher": "run/clip"},
        "none": {"objective.teacher": "there-is-none"},
        "odd": {"stages": [{"start": 0, "pixels": 36}]},
        "broken": {"text": {"frozen": str(tmp_path)}},
        "bare": {"text": {"frozen": str(write_sentence_encoder(tmp_path / "encoder"))}},
        "judged": {"data.captions": {"teacher": "run/clip", "filters": {"min_similarity": 0}}},
    }
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    file = write_comparison(tmp_path, colours, tiny, runs=runs, seeds=[0, 5])
    told = run("--config", file, "--output", tmp_path / "out", "--set", "steps=9", "--dry-run")
    assert "7 runs with the seeds 0, 5" in told
    assert re.search("clip: 2 times 9 steps of 32, .* each", told)
    assert "taught: 2 times 9 steps of 32, after the run whose bundle it needs" in told
    assert re.search("none: CANNOT BE RUN: there is no bundle in .*there-is-none", told)
    assert "odd: CANNOT BE RUN: tiny takes crops of a multiple of 8 pixels, not 36" in told
    assert re.search("broken: CANNOT BE RUN: .*config.json is missing", told)
    assert re.search("bare: CANNOT BE RUN: .*transformers is not installed", told)
    assert "judged: 2 times 9 steps of 32, after the run whose bundle it needs" in told
    assert "time: " in told
    assert not (tmp_path / "out").exists()
    seen: list[Any] = []
    monkeypatch.setattr("training.comparison.run.compare", lambda *given: (seen.append(given), ("table", "page"))[1])
    assert "report: page" in run("--config", file, "--set", "optimizer.learning_rate=0.5")
    [(comparison, output)] = seen
    assert output == Path("runs/comparison")
    assert {each.config.optimizer.learning_rate for each in comparison.trainings} == {0.5}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"config": 1}', '{"config": {"precision": "fp32"}}'])
def test_a_record_that_another_version_wrote_is_none(colours: Path, tiny: Path, tmp_path: Path, content: str) -> None:
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny), tmp_path)
    (tmp_path / "clip-0").mkdir()
    (tmp_path / "clip-0" / "measured.json").write_text(content)
    assert not is_done(comparison, comparison.trainings[0], tmp_path)


def test_one_comparison_at_a_time_works_in_a_folder(colours: Path, tiny: Path, tmp_path: Path) -> None:
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny), tmp_path)
    held = pytest.raises(ConfigError, match="another comparison is working in")
    with exclusive_lock(tmp_path / LOCK, OSError()), held:
        run_all(comparison, tmp_path)
    assert (tmp_path / LOCK).exists()
    assert not (tmp_path / "clip-0").exists()
