"""Files of comparisons of the tests: short runs that begin with a small bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.training.conftest import further, write_config

RUNS: dict[str, Any] = {"clip": {}, "siglip": {"objective": "sigmoid"}}
TIMES = ("training_s", "step_s", "memory_bytes", "image_ms", "text_ms")


def write_comparison(folder: Path, colours: Path, tiny: Path, **fields: Any) -> Path:
    """Six steps of each of RUNS, and what `fields` say instead."""
    base = write_config(colours, **further(tiny, steps=6, evaluate_every=6, checkpoint_every=2))
    content = {"base": str(base), "runs": RUNS, "measure": {"probe": {"colours": "train-*.tar"}}, **fields}
    file = folder / "comparison.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return file


def figures_of(output: Path, *runs: str) -> dict[str, Any]:
    """The cells of those runs, without what depends on how busy the machine is."""
    record = json.loads((output / "compare.json").read_text("utf-8"))
    return {
        f"{figure['title']}, {figure['task']}, {figure['metric']}": {run: figure["runs"][run] for run in runs}
        for figure in record["figures"]
        if figure["metric"] not in TIMES
    }
