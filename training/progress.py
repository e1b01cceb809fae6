"""Progress on standard error: bars on a terminal, elsewhere a plain line every half minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import track as rich_track

from model import progress
from model.progress import Count, log_periodically

Item = TypeVar("Item")
console = Console(stderr=True)


def track(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield `items` with their progress."""
    if console.is_terminal:
        return iter(rich_track(items, description=what, total=total, console=console))
    return _counted(items, Count(what, total))


def _counted(items: Iterable[Item], count: Count) -> Iterator[Item]:
    with lines(count):
        for item in items:
            yield item
            count.done += 1


@contextmanager
def progress_bar(count: Count) -> Iterator[Callable[[int, str], None]]:
    """Shows how far `count` is, a bar on a terminal and else lines; yields a setter of `done` and `detail`."""
    columns = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")]
    in_log = nullcontext() if console.is_terminal else lines(count)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar, in_log:
        task = bar.add_task(count.detail, total=count.total, completed=count.done)

        def advance(done: int, detail: str) -> None:
            count.done, count.detail = done, detail
            bar.update(task, completed=done, description=detail)

        yield advance


def lines(count: Count) -> AbstractContextManager[None]:
    """Within it a line is written of how far `count` is, now and every half minute."""
    return log_periodically(write_line, lambda: str(count))


def announced(what: str) -> AbstractContextManager[None]:
    """Within it a line is written that `what` goes on, now and every half minute."""
    return progress.announced(write_line, what)


def write_line(line: str) -> None:
    """As it is, however long."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)
