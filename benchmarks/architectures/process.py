"""One configuration in a process of its own, so that its memory is given back, whatever becomes of it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from benchmarks.architectures.table import Results


def run(name: str, full: bool, folder: str, results: str) -> None:
    """Compare one configuration, in a new folder inside `folder`, and keep its row in the folder `results`."""
    from benchmarks.architectures.compare import compare
    from benchmarks.architectures.cut import cut_towers

    logging.disable(logging.WARNING)
    with contextlib.nullcontext() if full else cut_towers():
        row = compare(name, full, Path(folder))
    Results(Path(results)).add(row)
