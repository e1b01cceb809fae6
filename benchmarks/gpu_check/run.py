"""Runs the sections, each in a process of its own, so that one that crashes, hangs or fills the GPU ends alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.outcome import Outcome, Section
from benchmarks.gpu_check.report import write

BUDGET_S = 590.0  # of all sections; with more, as a slow machine needs, each of them may take longer
LOG_LINES = 12  # of a section that failed


def _section(name: str, title: str, limit_s: float, required: bool = False) -> Section:
    return Section(f"benchmarks.gpu_check.{name}", title, limit_s, required)


# Their limits add up to more than the time of all: few reach theirs.
SECTIONS: Mapping[str, Section] = {
    "environment": _section("environment", "Environment", 60, required=True),
    "models": _section("models", "Models", 150, required=True),
    "parity": _section("parity", "Parity with torch", 90),
    "placement": _section("placement", "Placement of nodes", 60),
    "ladder": _section("ladder", "Ladder of the bare model", 120),
    "service": _section("service", "Service, workers and replicas", 150),
    "memory": _section("memory", "Memory of the device", 60),
    "soak": _section("out_of_memory", "Soak with memory running out", 120),
    "training": _section("training_steps", "Training", 150),
    "decoding": _section("decoding", "Decoding and loading", 40),
}
WITHOUT_MODELS = ("environment", "models", "decoding")


def check(
    options: Options, page: Path, budget_s: float, names: Sequence[str] = (), sections: Mapping[str, Section] = SECTIONS
) -> bool:
    """Run the sections and write the page after each; whether all ran to their ends and every promise was kept."""
    started, date = time.monotonic(), datetime.now().strftime("%Y-%m-%d %H:%M")
    stretch = max(1.0, budget_s / BUDGET_S)
    outcomes: list[Outcome] = []
    chosen = _with_models(names, options.folder) if names else list(sections)
    for name in chosen:
        section, left_s = sections[name], budget_s - (time.monotonic() - started)
        limit_s = min(section.limit_s * stretch, left_s)
        print(f"{section.title} (at most {max(0, limit_s):.0f} s)", flush=True)
        if unfit := next((each for each in outcomes if each.section.required and not each.kept), None):
            outcome = Outcome(section, error=f"not run: {unfit.section.title} did not succeed")
        elif left_s < 1:
            outcome = Outcome(section, error=f"not run: the {budget_s:g} s of all sections have passed")
        else:
            outcome = _run(name, section, options, limit_s)
        if outcome.error:
            print(f"  FAILED: {outcome.error}", flush=True)
        outcomes.append(outcome)
        write(outcomes, page, options, date, left=[sections[each].title for each in chosen[len(outcomes) :]])
    return all(outcome.kept for outcome in outcomes)


def _with_models(names: Sequence[str], folder: Path) -> list[str]:
    """Models are made first, where a section that was named needs them and they are not there."""
    needed = not (folder / "models").exists() and any(name not in WITHOUT_MODELS for name in names)
    return ["models", *names] if needed and "models" not in names else list(names)


def _run(name: str, section: Section, options: Options, limit_s: float) -> Outcome:
    file, log = options.folder / f"{name}.json", options.folder / f"{name}.log"
    file.unlink(missing_ok=True)
    quick = ["--quick"] if options.quick else []
    command = [sys.executable, "-m", "benchmarks.gpu_check.section", section.module, options.device, str(file), *quick]
    started = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, start_new_session=True)  # noqa: S603
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    outcome = Outcome(section, Findings.read(file), time.monotonic() - started)
    if code != 0:
        how = f"it was ended after {limit_s:.0f} s" if code is None else f"exit code {code}"
        outcome.error = f"{how}; its last lines:\n{_tail(log)}"
    elif not (outcome.findings.promises or outcome.findings.not_run):
        outcome.error = "it looked at no promise, and gave no reason"
    return outcome


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the section has started and left behind, services for instance, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES:]) or "(it wrote none)"


def clear(folder: Path) -> None:
    """Remove what an earlier run left in the folder: models of other code prove nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
