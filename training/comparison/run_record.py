"""What the folder of a run says of it, read as a stranger's: settings, steps, results and costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from model.bundle import Bundle
from model.data.files import MAX_LIST_BYTES, MAX_TEXT_BYTES, read_bounded
from model.manifest import MANIFEST
from model.suggestions import did_you_mean_path
from training.comparison.measure import measure_costs
from training.config import ConfigError
from training.evaluation.results import Result
from training.metrics import METRICS, read_records
from training.report.costs import PEAK_MEMORY, training_costs
from training.run import RESULTS
from training.run_folder import CONFIG

BUNDLE = "bundle"


class _Settings(BaseModel):
    """Of config.json what has to be known; all other fields are kept as they are, also those of another version."""

    model_config = ConfigDict(extra="allow")
    batch_size: PositiveInt


class _Result(BaseModel):
    """Of a line of results.json what is laid side by side."""

    dataset: str
    task: str
    headline: str
    interval_95: tuple[float, float]
    metrics: dict[str, float]
    pictures: PositiveInt
    choices: PositiveInt


class _Step(BaseModel):
    """Of a line of metrics.jsonl what is drawn."""

    step: int
    samples_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    loss: float | None = None
    holdout: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    logit_scale: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """`steps` are the lines of metrics.jsonl; `results` is None where nothing was measured yet."""

    name: str
    folder: Path
    settings: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    results: Sequence[Mapping[str, Any]] | None
    costs: Mapping[str, float]


def read_run(folder: Path, name: str) -> RunRecord:
    """Read the folder of a run; one that still trains has costs of its steps only.

    Raises ConfigError or OSError naming the file that is missing or is not what a run writes, BundleError.
    """
    if not (folder / CONFIG).is_file():
        near = did_you_mean_path(folder) if not folder.exists() else ""
        raise ConfigError(
            f"{folder} is not the folder of a run: there is no {CONFIG} in it. Name what `train` wrote.{near}"
        )
    settings = _parse(_Settings, folder / CONFIG, MAX_TEXT_BYTES).model_dump()
    steps = _steps(folder / METRICS)
    if (folder / PEAK_MEMORY).exists():
        _parse(dict[str, float], folder / PEAK_MEMORY, MAX_TEXT_BYTES)
    costs = training_costs(folder, settings["batch_size"])
    if (folder / BUNDLE / MANIFEST).exists():
        costs |= measure_costs(Bundle.load(folder / BUNDLE))
    results = None
    if (folder / RESULTS).exists():
        results = [each.model_dump() for each in _parse(list[_Result], folder / RESULTS, MAX_TEXT_BYTES)]
    return RunRecord(name, folder, settings, steps, results, costs)


def _steps(metrics: Path) -> Sequence[Mapping[str, Any]]:
    read_bounded(metrics, MAX_LIST_BYTES)  # it is a regular file, and no larger than can be held
    try:
        found = TypeAdapter(list[_Step]).validate_python(read_records(metrics))
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{metrics} is not what a run writes, a JSON object a line: {_first_line(error)}") from error
    if not found:
        raise ConfigError(f"{metrics}: the run has not done its first step yet: wait for it")
    return [each.model_dump() for each in found]


def _parse(kind: Any, file: Path, limit: int) -> Any:
    try:
        return TypeAdapter(kind).validate_python(json.loads(read_bounded(file, limit)))
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{file} is not what a run writes: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        [first, *_] = error.errors()
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return str(error) or type(error).__name__


def to_plain(result: Result) -> dict[str, Any]:
    """A result that was just measured, in the form of those that are read."""
    return {
        "dataset": result.dataset, "task": result.task, "headline": result.headline, "interval_95": result.interval,
        "metrics": dict(result.metrics), "pictures": result.images, "choices": result.choices,
    }  # fmt: skip
