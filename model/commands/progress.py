"""How a download goes: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY_S = 5.0


class Reporter:
    """Writes to stderr, which is also where the service reads it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line_s = 0.0

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def progress(self, file: str, done: int, total: int | None) -> None:
        """Bytes of a file that are here, of all it has."""
        if self._console.is_terminal:
            if file not in self._tasks:
                self._tasks[file] = self._bars.add_task(file)
            self._bars.update(self._tasks[file], completed=done, total=total)
        elif done == total or time.monotonic() - self._last_line_s > LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            of = f" of {total / 1e6:.1f} MB, {100 * done // max(total, 1)} %" if total is not None else " MB"
            self.note(f"{file}: {done / 1e6:.1f}{of}")

    def note(self, message: str) -> None:
        """Something that a person wants to know."""
        self._console.print(message)
