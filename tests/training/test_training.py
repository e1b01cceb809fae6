"""A run from shards to a bundle that is right, resumed where it was killed, and refused when it cannot be run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from model import progress
from model.bundle import Bundle
from tests.training.conftest import further, write_config
from training.__main__ import app
from training.config import ConfigError, load_config
from training.initial_model import build_initial_model
from training.loop.loader import StepInputs
from training.loop.setup import setup
from training.loop.timing import REPEATS, WARM_UP, time_steps
from training.loop.train_unit import TrainUnit
from training.loop.trainer import train_step
from training.plan import plan
from training.run import train_and_export


def test_a_run_learns_evaluates_and_exports(colours: Path, tmp_path: Path) -> None:
    file = write_config(colours, steps=30, evaluate_every=15, batch_size=16)
    bundle = train_and_export(load_config(file), colours, tmp_path / "run")
    score = bundle.manifest.scores["colours"]
    assert score["pictures"] == 40
    assert score["value"] >= 0.75  # chance is 0.25
    assert bundle.manifest.source["samples_seen"] == 30 * 16
    assert Bundle.load(tmp_path / "run" / "bundle").manifest.weights_dtype == "float16"
    [result] = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (result["task"], result["choices"]) == ("zeroshot_classification", 4)
    assert result["interval_95"][0] <= result["metrics"]["acc1"] <= result["interval_95"][1]
    page, card = (
        (tmp_path / "run" / "report.html").read_text("utf-8"),
        (bundle.path / "MODEL_CARD.md").read_text("utf-8"),
    )
    assert "30 steps of 16" in page
    assert "held-out top-1, %" in page
    assert "| colours | zero-shot classification | 40 | 4 | top-1 |" in card
    assert str(tmp_path) not in card + page
    assert not (bundle.path / "ATTRIBUTIONS.tsv.gz").exists()  # nobody has to be named


def test_a_run_can_be_measured_before_it_ends(colours: Path, tmp_path: Path) -> None:
    config = load_config(write_config(colours))
    setup(config, tmp_path / "run", colours).fit()
    arguments = ["evaluate", str(tmp_path / "run"), "--data", f"{colours}/test-*.tar"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "| 40 | 4 | top-1 |" in done.output


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_continues_to_the_same_weights(colours: Path, tmp_path: Path, precision: str) -> None:
    file = write_config(colours, precision=precision, batch_size=8)
    config = load_config(file)
    whole = setup(config, tmp_path / "whole", colours)
    whole.fit()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom training.config import load_config\n"
        "from training.loop.setup import setup\n"
        "class Killer:\n"
        "    def log(self, record):\n"
        "        if record['step'] == 6: os.kill(os.getpid(), 9)\n"
        "file = Path(sys.argv[1]); trainer = setup(load_config(file), Path(sys.argv[2]), file.parent)\n"
        "trainer.loggers = [Killer()]; trainer.fit()\n"
    )
    arguments = [str(file), str(tmp_path / "killed")]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=False)
    assert killed.returncode == -9
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 7, "lo')  # as a kill in the middle of a write leaves it
    resumed = setup(config, tmp_path / "killed", colours)
    assert resumed.state.step == 4  # the last checkpoint before step 6
    resumed.fit()
    last = "checkpoints/step-000012"
    for file in (f"{last}/network", f"{last}/average", f"{last}/optimizer", "best"):
        one, other = (load_file(tmp_path / run / f"{file}.safetensors") for run in ("whole", "killed"))
        assert one.keys() == other.keys()
        assert all(one[name].equal(other[name]) for name in one), file
    assert resumed.state == whole.state
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_a_folder_with_another_run_is_refused(colours: Path, tmp_path: Path) -> None:
    setup(load_config(write_config(colours, steps=4, checkpoint_every=4)), tmp_path / "run", colours).fit()
    setup(load_config(write_config(colours, steps=4, checkpoint_every=2)), tmp_path / "run", colours)
    with pytest.raises(ConfigError, match="another configuration") as raised:
        setup(load_config(write_config(colours, seed=1)), tmp_path / "run", colours)
    lines = str(raised.value).splitlines()
    assert lines[1:3] == ["  steps: 4 there, 12 now", "  seed: 0 there, 1 now"]
    assert "has done its 4 steps" in lines[-1]


def test_a_finished_run_is_trained_further_from_its_bundle(colours: Path, tiny: Path, tmp_path: Path) -> None:
    first = write_config(colours, **further(tiny))
    train_and_export(load_config(first), colours, tmp_path / "run")
    for change, line in (
        ("steps=5", "steps: 4 there, 5 now"),
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate: 0.001 there, 0.0001 now"),
        ("data.train=[{shards: train-0.tar}]", "data.train.0.shards.0: train-*.tar there, train-0.tar now"),
        ("start=model/bundled", "start: "),
    ):
        arguments = ["train", "--config", str(first), "--output", str(tmp_path / "run"), "--set", change]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 1
        assert line in done.output
        assert f"start: {tmp_path / 'run' / 'bundle'}" in done.output
        assert "another --output" in done.output
    again = write_config(colours, **further(tmp_path / "run" / "bundle", steps=5))
    assert train_and_export(load_config(again), colours, tmp_path / "further") is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"learning": 1}, "learning"),
        ({"stages": [{"start": 0.5, "pixels": 64}]}, "stages must start at 0"),
        ({"data": {"train": []}}, "data.train"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate"),
        ({"optimizer": {"warmup_steps": 12}}, "warmup_steps 12 must be fewer"),
        ({"stages": [{"start": 0, "pixels": 30}]}, "multiple of 32"),
        ({"templates": ["no place"]}, "exactly once"),
        ({"model": "sightwrd-small"}, "there are: .*sightword-small"),
    ],
)
def test_a_bad_configuration_is_refused_by_field(colours: Path, change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(write_config(colours, **change))


def test_the_command_line_says_what_is_wrong(colours: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    missing = run(app, ["train", "--config", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 1
    assert "none.yaml" in missing.output
    data = {"train": [{"shards": ["nothing-*.tar"]}]}
    empty = run(app, ["train", "--config", str(write_config(colours, data=data)), "--output", str(tmp_path / "r")])
    assert empty.exit_code == 1
    assert "nothing-*.tar" in empty.output
    neither = run(app, ["evaluate", str(tmp_path)])
    assert (neither.exit_code, "--data" in neither.output) == (1, True)
    shared = {"train": [{"shards": ["*-0.tar"]}], "test": {"colours": ["test-*.tar"]}}
    overlap = run(app, ["train", "--config", str(write_config(colours, data=shared)), "--output", str(tmp_path / "r")])
    assert (overlap.exit_code, "among the tests too" in overlap.output) == (1, True)
    printed = run(app, ["config"]).output
    (tmp_path / "mine.yaml").write_text(printed)
    assert load_config(tmp_path / "mine.yaml").name == "sample"


def test_the_plan_of_a_run_names_what_it_needs_and_begins_nothing(colours: Path, tmp_path: Path) -> None:
    stages = [{"start": 0, "pixels": 64}, {"start": 0.5, "pixels": 96}]
    file = write_config(colours, stages=stages)
    arguments = ["train", "--config", str(file), "--output", str(tmp_path / "run"), "--dry-run", "--set", "steps=20"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "20 steps of 32 = 640 samples" in done.output
    assert "160 pictures" in done.output
    assert done.output.count("10 steps at") == 2
    assert "GiB" in done.output
    time = r"time: \d+ (s|min)( to \d+ (s|min))? in float32, on this machine as busy as it is now"
    assert re.search(time, done.output)
    assert "steps of 32 pictures after others that warmed up" in done.output  # as many as the run takes at a time
    assert not (tmp_path / "run").exists()


def test_the_plan_tells_how_a_batch_is_divided_and_what_that_saves(
    colours: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**changes: Any) -> tuple[str, float, float]:
        text = plan(load_config(write_config(colours, **further(tiny, batch_size=4096, **changes))), colours)
        weights, activations = re.search(r"average ([0-9.]+), activations ([0-9.]+)", text).groups()
        return text, float(weights), float(activations)

    whole, _, most = told()
    divided, _, least = told(accumulate=4, gradient_checkpointing=True)
    assert "divided" not in whole
    assert "divided into 4 chunks: 1,024 pictures" in divided
    assert least < most / 4
    monkeypatch.setenv("WORLD_SIZE", "2")
    shared, _, half = told(parallel="fsdp", accumulate=2)
    assert "divided into 2 processes by fsdp, each in 2 chunks: 1,024 pictures" in shared
    assert half == pytest.approx(most / 4, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [("steps=x", "steps"), ("steps", "FIELD=VALUE"), ("name.x=1", "FIELD=VALUE"), ("optimizer.speed=1", "speed"),
     ("steps=[", "not YAML")],
)  # fmt: skip
def test_changes_are_checked_as_the_file_is(colours: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(colours), [change])


def test_changes_take_the_place_of_what_the_file_says(colours: Path) -> None:
    config = load_config(write_config(colours), ["optimizer.learning_rate=2e-5", "ema_decay=0.25", "lock.image=1"])
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps) == (2e-5, 2)
    assert (config.ema_decay, config.lock.image) == (0.25, (1, 1))


def test_the_shipped_configurations_are_valid() -> None:
    folder = Path(__file__).parents[2] / "training" / "configs"
    compared = set(folder.glob("*compare*.yaml"))  # of which tests/training/comparison asks the same
    names = {file.stem: load_config(file) for file in folder.glob("*.yaml") if file not in compared}
    assert set(names) == {"sample", "bundled", "finetune", "captions"}


def test_a_step_is_timed_several_times_as_the_run_takes_it(colours: Path, tiny: Path) -> None:
    config = load_config(write_config(colours, **further(tiny, batch_size=64)))
    steps: list[int] = []
    initial = build_initial_model(config)

    def counted(unit: TrainUnit, inputs: StepInputs) -> None:
        steps.append(len(inputs.batch.items))
        train_step(unit, inputs)

    whole = time_steps(config, initial, initial.network, "fp32", 3, images=64, most=1000, train_step=counted)
    assert steps == [64] * (WARM_UP + REPEATS)
    part = time_steps(config, initial, initial.network, "fp32", 3, images=64, most=32, train_step=counted)
    assert steps[WARM_UP + REPEATS :] == [32] * (WARM_UP + REPEATS)
    assert (whole.repeats, whole.images, part.images) == (REPEATS, 64, 32)
    assert 0 < whole.fastest <= whole.slowest


def test_a_run_in_a_log_tells_of_itself_from_the_start(
    colours: Path, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.01)
    setup(load_config(write_config(colours, **further(tiny))), tmp_path / "run", colours).fit()
    lines = capsys.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("step: ")]
    assert steps[0] == "step: 0 of 4, starting"
    assert re.fullmatch(r"step: \d of 4 \(\d+ %\), \S+ a second,( about .+ left,)? loss .+ pictures/s .+", steps[-1])
    assert any(line.startswith("decoding pictures: 0 of 128") for line in lines)
    assert any(line.startswith("indexing train-*.tar") for line in lines)
