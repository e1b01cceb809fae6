"""A bar for long lists: of tqdm or rich, where one of them is installed, on a terminal or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], object]


@contextmanager
def bar(wanted: bool, total: int | None, what: str) -> Iterator[Advance]:
    """Shows how far it is, if `wanted`; what it gives is called with the number of items that are done."""
    notebook = "ipykernel.kernelapp" in sys.modules  # and not only what lists or starts kernels
    if not wanted or not (notebook or sys.stderr.isatty()):
        yield lambda items: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        with _rich_bar(total, what) as advance:
            yield advance
        return
    with tqdm(total=total, desc=what, unit="item", file=None if notebook else sys.stderr) as shown:
        yield shown.update


@contextmanager
def _rich_bar(total: int | None, what: str) -> Iterator[Advance]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda items: None
        return
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda items: progress.advance(task, items)
