"""The file of a run's figures, a line of JSON for each step."""

from __future__ import annotations

import json
from pathlib import Path

METRICS = "metrics.jsonl"


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
