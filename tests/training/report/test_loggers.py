"""What a run shows while it goes: a scrape of its port, the files of TensorBoard read back, alerts on real metrics."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from tests.training.conftest import write_config
from training.__main__ import app
from training.config import load_config
from training.loop.setup import setup
from training.report.loggers import EVENTS, LoggerConfig, PrometheusLogger, TensorBoardLogger

ROOT = Path(__file__).parents[3]
RECORD = {"step": 3, "loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.7, "logit_scale": 14.0, "samples_per_s": 90}
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on this machine")


def scrape(exporter: PrometheusLogger) -> str:
    answer = httpx.get(exporter.url, timeout=20)
    assert answer.status_code == 200
    return answer.text


@pytest.fixture
def exporter() -> Any:
    made = PrometheusLogger("127.0.0.1", 0, steps=10, batch_size=32)
    yield made
    made.close()


def test_a_scrape_tells_the_last_step(exporter: PrometheusLogger) -> None:
    exporter.log(RECORD | {"holdout": 0.25})
    exporter.log(RECORD | {"step": 4, "loss": 2.0})
    told = dict(line.rsplit(" ", 1) for line in scrape(exporter).splitlines() if not line.startswith("#"))
    values = {name.removeprefix("sightword_training_"): float(value) for name, value in told.items()}
    assert (values["step"], values["steps"], values["loss"]) == (4, 10, 2.0)
    assert (values["samples_total"], values["samples_per_second"]) == (64, 90)
    assert values["holdout_score"] == 0.25  # of the last evaluation, not of the last step
    assert values["last_step_timestamp_seconds"] > 1.7e9


@PROMTOOL
def test_promtool_likes_what_is_scraped_and_what_deploy_holds(exporter: PrometheusLogger) -> None:
    exporter.log(RECORD)
    linted = subprocess.run(["promtool", "check", "metrics"], input=scrape(exporter), text=True, capture_output=True)
    assert (linted.returncode, linted.stderr) == (0, "")
    checked = subprocess.run(
        ["promtool", "check", "config", str(ROOT / "deploy" / "prometheus" / "training-only.yml")],
        text=True,
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert "3 rules found" in checked.stdout


def test_alerts_name_metrics_that_exist(exporter: PrometheusLogger) -> None:
    named = set(
        re.findall(
            r"sightword_training_\w+", (ROOT / "deploy" / "prometheus" / "training-rules.yml").read_text("utf-8")
        )
    )
    assert named
    assert all(f"\n{name} " in scrape(exporter) for name in named)


def test_a_port_that_is_taken_is_told_before_training(colours: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["train", "--config", str(write_config(colours)), "--output", str(tmp_path / "run")]
        done = CliRunner().invoke(app, [*arguments, "--metrics-port", str(port)])
    assert done.exit_code == 1
    assert f"--metrics-port {port}" in done.output
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def curve(run: Path, name: str) -> dict[int, float]:
    events = EventAccumulator(str(run / EVENTS)).Reload()
    return {point.step: point.value for point in events.Scalars(name)}


class Scraper:
    """Scrapes once the second step is logged."""

    def __init__(self, exporter: PrometheusLogger) -> None:
        self.exporter, self.scraped = exporter, ""

    def log(self, record: Mapping[str, Any]) -> None:
        if record["step"] == 2:
            self.scraped = scrape(self.exporter)

    def close(self) -> None:
        pass


def test_a_run_leaves_curves_and_can_be_scraped_as_it_goes(colours: Path, tmp_path: Path) -> None:
    """The scrape is made from inside the run, at its second step."""
    config = load_config(write_config(colours, steps=4, batch_size=8, evaluate_every=2))
    trainer = setup(config, tmp_path, colours)
    with LoggerConfig(metrics_port=0).open(config, tmp_path, 0) as trainer.loggers:
        scraper = Scraper(next(each for each in trainer.loggers if isinstance(each, PrometheusLogger)))
        trainer.loggers.append(scraper)
        trainer.fit()
    assert "sightword_training_step 2.0" in scraper.scraped
    assert "sightword_training_samples_total 16.0" in scraper.scraped
    assert list(curve(tmp_path, "loss")) == [1, 2, 3, 4]
    assert list(curve(tmp_path, "holdout")) == [2, 4]


def test_steps_that_are_done_again_are_in_the_curve_once(tmp_path: Path) -> None:
    for first, last, loss in ((0, 6, 5.0), (4, 8, 1.0)):  # killed after step 6, gone on with from step 4
        events = TensorBoardLogger(tmp_path, first)
        for step in range(first + 1, last + 1):
            events.log({"step": step, "loss": loss})
        events.close()
        time.sleep(1)  # files are read in the order of their names, in which a second is the first figure
    assert curve(tmp_path, "loss") == {step: 5.0 if step <= 4 else 1.0 for step in range(1, 9)}


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path, colours: Path) -> None:
    config = load_config(write_config(colours))
    with LoggerConfig(tensorboard=False).open(config, tmp_path, 0) as loggers:
        assert loggers == []
    assert list(tmp_path.iterdir()) == []
