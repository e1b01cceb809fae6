"""The file of a run's figures, a line of JSON for each step, and who else is told them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

METRICS = "metrics.jsonl"


class Watcher(Protocol):
    """Is told each line as it is written."""

    def tell(self, record: Mapping[str, Any]) -> None:
        """One step is done: `record` has `step` and its figures."""

    def close(self) -> None:
        """The run has ended, well or not."""


def forget_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a killed run did after its last checkpoint: they are done again."""
    if not metrics.exists():
        return
    kept = [line for line in metrics.read_text("utf-8").splitlines(keepends=True) if _step_of(line) <= step]
    draft = metrics.with_suffix(".partial")
    draft.write_text("".join(kept), "utf-8")
    draft.replace(metrics)


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that the kill cut in two."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")
