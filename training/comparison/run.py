"""A comparison from end to end, and what it would take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model.checkpoints.checkpoint import CheckpointError
from model.data.tar_members import ShardError
from model.manifest import MANIFEST, BundleError
from model.progress import format_duration
from model.runtime.providers import EngineError
from training.comparison.config import Comparison, PlannedRun
from training.comparison.report import notes, write_comparison
from training.comparison.statistics import tabulate
from training.comparison.supervisor import is_done, run_all
from training.comparison.text_table import text_table
from training.config import ConfigError
from training.config.captions import STORED
from training.plan import estimate

# What the start of a run raises where it cannot be.
REFUSED = (ConfigError, BundleError, CheckpointError, EngineError, ShardError, OSError)


def compare(comparison: Comparison, output: Path) -> tuple[str, Path]:
    """Train and measure what is not done yet; returns the table for a terminal, and the report.

    Raises ConfigError before the first run, and where not one could be trained.
    """
    outcomes = run_all(comparison, output)
    table = tabulate(comparison.runs, outcomes)
    told = notes(comparison, outcomes)
    report = write_comparison(comparison, outcomes, table, output)
    if not table.figures:
        raise ConfigError("no run could be trained:\n  " + "\n  ".join(told))
    return "\n".join([text_table(table), *([""] * bool(told)), *told]), report


def describe(comparison: Comparison, output: Path) -> str:
    """What would be run, and about how long it takes: by a few steps of each run. Raises ConfigError."""
    return "\n".join(_lines(comparison, output))


def _lines(comparison: Comparison, output: Path) -> Iterator[str]:
    config = comparison.config
    seeds = ", ".join(map(str, config.seeds))
    yield f"{len(config.runs)} runs with the seeds {seeds}, in {output}:"
    fastest = slowest = 0.0
    for run in comparison.runs:
        left = [each for each in comparison.trainings if each.run == run and not is_done(comparison, each, output)]
        if not left:
            yield f"  {run}: done"
            continue
        needed = [Path(bundle) for bundle in _bundles(left[0]) if not (Path(bundle) / MANIFEST).exists()]
        if needed and needed[0].is_relative_to(output.resolve()):
            yield f"  {run}: {_counts(left)}, after the run whose bundle it needs; how long is not known before"
            continue
        if needed:
            yield f"  {run}: CANNOT BE RUN: there is no bundle in {needed[0]}"
            continue
        try:
            each = estimate(left[0].config, left[0].base)
        except REFUSED as error:
            yield f"  {run}: CANNOT BE RUN: {error}"
            continue
        fastest, slowest = fastest + len(left) * each.fastest, slowest + len(left) * each.slowest
        yield f"  {run}: {_counts(left)}, {_range(each.fastest, each.slowest)} each"
    yield f"measured: {', '.join(comparison.measure.test or {})}"
    yield f"time: {_range(fastest, slowest)} of training on this machine as busy as it is now, and the tests of each"


def _bundles(planned: PlannedRun) -> list[str]:
    """What it begins with, what it learns from, and what judges its captions."""
    config = planned.config
    named = (config.start, config.objective.teacher, config.data.captions.teacher)
    return [bundle for bundle in named if bundle and bundle != STORED]


def _counts(left: list[PlannedRun]) -> str:
    config = left[0].config
    many = f"{len(left)} times " if len(left) > 1 else ""
    return f"{many}{config.steps:,} steps of {config.batch_size:,}"


def _range(fastest: float, slowest: float) -> str:
    low, high = format_duration(fastest), format_duration(slowest)
    return low if low == high else f"{low} to {high}"
