"""How a job goes: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.progress import Count, log_periodically
from model.terminal import printable

SPEED_OVER_S = 60.0  # of the time that is left


class JobProgress:
    """Items that are done, how many of them failed in this run, how many are done in a second, and what is left."""

    def __init__(self, total: int, done: int) -> None:
        self.count, self.failed = Count("embedded", total, done), 0
        self._bar: Progress | None = None

    def advance(self, items: int, failed: int) -> None:
        """So many items more are done; so many of them failed."""
        self.count.done += items
        self.failed += failed
        if self._bar is not None:
            [task] = self._bar.tasks
            speed = f"{task.speed:.3g} a second" if task.speed else ""
            state = f"{speed}, {self.failed:,} failed" if self.failed else speed
            self._bar.update(task.id, completed=self.count.done, state=state)

    def describe(self) -> str:
        """A line."""
        return f"{self.count}, {self.failed:,} failed" if self.failed else str(self.count)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within it, standard error shows how far it is."""
        if not sys.stderr.isatty():
            with log_periodically(write_line, self.describe):
                yield
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=SPEED_OVER_S) as self._bar:
            self._bar.add_task("embed", total=self.count.total, completed=self.count.done, state="")
            yield


def write_line(line: str) -> None:
    """To standard error; names of files and of what is in them are of others."""
    print(printable(line, keep="\n"), file=sys.stderr, flush=True)
