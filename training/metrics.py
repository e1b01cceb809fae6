"""The metrics of a run: a line of JSON for each step in metrics.jsonl, and the interface of further loggers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from model.files import write_atomically

METRICS = "metrics.jsonl"


class MetricsLogger(Protocol):
    """Gets each record as it is written into metrics.jsonl: TensorBoard, Prometheus."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Log one step: `record` has `step`, counted from 1, and its metrics by name."""

    def close(self) -> None:
        """Release what it holds: the run has ended, well or not."""


def read_records(metrics: Path) -> Sequence[Mapping[str, Any]]:
    """The lines of metrics.jsonl; without the last one where a run that goes on is just writing it. Raises OSError."""
    *lines, last = metrics.read_text("utf-8").split("\n")
    records = [json.loads(line) for line in lines]
    with suppress(json.JSONDecodeError):
        records.append(json.loads(last))
    return records


def append_record(metrics: Path, record: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl. Raises OSError."""
    with metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def drop_records_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a killed run did after its last checkpoint: they are done again."""
    if not metrics.exists():
        return
    kept = [line for line in metrics.read_text("utf-8").splitlines(keepends=True) if _step_of(line) <= step]
    with write_atomically(metrics) as draft:
        draft.write_text("".join(kept), "utf-8")


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that the kill cut in two."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")
