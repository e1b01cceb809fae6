"""Reads inputs as a job does: each part by itself, after a way through JSON."""

from __future__ import annotations

import json
from pathlib import Path

from model.data.skipped_samples import SkippedSamples
from service.bulk.sources import Item, Part, SourceOptions, plan, read


def read_all(*inputs: Path, skipped: SkippedSamples | None = None, options: SourceOptions | None = None) -> list[Item]:
    """All items in order, though the last part is read first."""
    options = options or SourceOptions(part_rows=3)
    found: list[list[Item]] = []
    for text in reversed([json.dumps(part.to_json()) for part in plan(inputs, options, skipped)]):
        part = Part.from_json(json.loads(text))
        found.append(list(read(part, options)))
        assert len(found[-1]) == part.rows
    return [item for items in reversed(found) for item in items]
