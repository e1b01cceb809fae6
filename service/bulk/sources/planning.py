"""Plans a job: its inputs in one pass, as parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.skipped_samples import SkippedSamples
from model.suggestions import did_you_mean_path
from service.bulk.sources.folders import plan_folder
from service.bulk.sources.part import Part, SourceError, SourceOptions


def plan(inputs: Sequence[Path], options: SourceOptions, skipped: SkippedSamples | None = None) -> Iterator[Part]:
    """All parts, in order. What was guessed is noted in `skipped`, and files that are no items are counted there.

    Raises SourceError for an input that cannot be embedded.
    """
    counts = SkippedSamples() if skipped is None else skipped
    for given in inputs:
        path = given.absolute()
        if path.is_dir():
            yield from plan_folder(path, options.kind or "image", options, counts)
        elif not path.exists():
            raise SourceError(f"there is no {given}{did_you_mean_path(str(given))}")
        else:
            raise SourceError(f"{given} is no folder")
