"""Progress bars on standard error, plain lines where that is not a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")
console = Console(stderr=True)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items` behind a progress bar."""
    if not console.is_terminal:
        console.print(f"{what}: {total}")
        return iter(items)
    return iter(rich_track(items, description=what, total=total, console=console))
