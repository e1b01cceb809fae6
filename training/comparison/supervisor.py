"""Has trainings done one after the other, each in a process of its own; what is done stays done."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.files import exclusive_lock, write_atomically
from model.progress import Count
from training.comparison.config import Comparison, Measure, PlannedRun
from training.comparison.worker import FAILED, MEASURED
from training.config import ConfigError, TrainConfig
from training.loop.precision import choose_precision
from training.loop.processes import device_of
from training.metrics import METRICS
from training.progress import progress_bar, write_line
from training.run_folder import guard_run_folder

LOG, LOCK, PRECISION = "train.log", ".lock", "precision.json"
POLL_S = 0.5
WAIT_S = 30.0  # for a process whose input has ended
TAIL_BYTES = 4096


@dataclass(frozen=True)
class Outcome:
    """What came of a training: what was measured, or why it failed."""

    planned: PlannedRun
    record: dict[str, Any] | None
    reason: str = ""


def run_all(comparison: Comparison, output: Path) -> list[Outcome]:
    """Do what is not done yet, in the folder `output`, and tell how far it is. Raises ConfigError before the first one.

    One that fails is an outcome like others: they go on.
    """
    output.mkdir(parents=True, exist_ok=True)
    held = ConfigError(f"another comparison is working in {output}: wait for it, or name another --output")
    with exclusive_lock(output / LOCK, held):
        trainings = _with_one_precision(comparison.trainings, output)
        for planned in trainings:
            _guard(output / planned.folder, planned)
        steps = [planned.config.steps for planned in trainings]
        done = sum(_steps_done(output / planned.folder) for planned in trainings)
        outcomes = []
        with progress_bar(Count("step", sum(steps), min(done, sum(steps)), "")) as advance:
            for number, planned in enumerate(trainings):
                others = sum(steps[:number]) + sum(
                    _steps_done(output / each.folder) for each in trainings[number + 1 :]
                )
                place = f"{planned} ({number + 1} of {len(trainings)})"

                def report(step: int, what: str, others: int = others, place: str = place) -> None:
                    advance(others + step, f"{place}{what}")

                outcomes.append(_outcome(comparison, planned, output, report))
        return outcomes


def is_done(comparison: Comparison, planned: PlannedRun, output: Path) -> bool:
    """Whether it was trained and measured as it is to be now."""
    return _measured(comparison, planned, output / planned.folder) is not None


def _outcome(comparison: Comparison, planned: PlannedRun, output: Path, report: Callable[[int, str], None]) -> Outcome:
    run = output / planned.folder
    record = _measured(comparison, planned, run)
    if record is not None:
        return Outcome(planned, record)
    began = time.monotonic()
    reason = _run(comparison, planned, run, report)
    record = _measured(comparison, planned, run)
    if record is None:
        write_line(f"{planned} FAILED: {reason}")
        return Outcome(planned, None, reason)
    write_line(f"{planned}: trained and measured in {time.monotonic() - began:.0f} s")
    return Outcome(planned, record)


def _run(comparison: Comparison, planned: PlannedRun, run: Path, report: Callable[[int, str], None]) -> str:
    """Train in a process of its own; returns why it failed, if it did."""
    run.mkdir(parents=True, exist_ok=True)
    (run / FAILED).unlink(missing_ok=True)
    request = {
        "run": str(run.resolve()),
        "base": str(planned.base),
        "config": planned.config.model_dump(mode="json"),
        "measure": _dump(comparison.measure),
    }
    command = [sys.executable, "-m", "training.comparison.worker"]
    with (run / LOG).open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603 - ourselves
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while _is_running(process):
                step = _steps_done(run)
                report(step, ", measuring" if step >= planned.config.steps else "")
        finally:
            process.stdin.close()  # with which it ends, if it still runs
            process.wait(WAIT_S)
    return _failure(run, process.returncode)


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _failure(run: Path, code: int) -> str:
    if (run / FAILED).exists():
        reason: str = json.loads((run / FAILED).read_text("utf-8"))["reason"]
        return reason
    if code < 0:
        return f"its process was ended by signal {-code}, mostly by the system for want of memory"
    return f"its process ended with {code}: {run / LOG} says why"


def _measured(comparison: Comparison, planned: PlannedRun, run: Path) -> dict[str, Any] | None:
    """What was measured of a run, if it is what is to be measured now and nothing of its configuration has changed."""
    try:
        record: dict[str, Any] = json.loads((run / MEASURED).read_text("utf-8"))
        config = {**planned.config.model_dump(mode="json"), "precision": record["config"]["precision"]}
        return record if [record["measure"], record["config"]] == [_dump(comparison.measure), config] else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or one that another version or nobody wrote
        return None


def _dump(measure: Measure) -> dict[str, Any]:
    return measure.model_dump(mode="json")


def _steps_done(run: Path) -> int:
    """By the last line of its metrics."""
    try:
        with (run / METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, IndexError, KeyError):  # none yet, or one that is being written
        return 0


def _guard(run: Path, planned: PlannedRun) -> None:
    try:
        guard_run_folder(run, planned.config)
    except ConfigError as error:
        raise ConfigError(f"run {planned}: {error}") from error


def _with_one_precision(trainings: Sequence[PlannedRun], output: Path) -> list[PlannedRun]:
    """`auto` is decided once for all: by a timing, it could be another one in each run. Kept for when they go on."""
    if all(planned.config.precision != "auto" for planned in trainings):
        return list(trainings)
    file = output / PRECISION
    if file.exists():
        chosen = json.loads(file.read_text("utf-8"))["precision"]
    else:
        chosen = choose_precision("auto", device_of(trainings[0].config.device))
        with write_atomically(file) as draft:
            draft.write_text(json.dumps({"precision": chosen}) + "\n", "utf-8")
    return [_in_precision(planned, chosen) for planned in trainings]


def _in_precision(planned: PlannedRun, chosen: str) -> PlannedRun:
    if planned.config.precision != "auto":
        return planned
    config: TrainConfig = planned.config.model_copy(update={"precision": chosen})
    return PlannedRun(planned.run, planned.seed, config, planned.base)
