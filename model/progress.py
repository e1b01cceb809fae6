"""Lines in a log while something takes long: one at the start, and one every half minute whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

INTERVAL_S = 30.0  # between two lines


@dataclass
class Count:
    """How far something is: `done` of `total`, of which `first` were done before it began; `detail` is free text."""

    what: str
    total: int
    done: int = 0
    detail: str = ""
    first: int = field(init=False)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.began = self.done, time.monotonic()

    def __str__(self) -> str:
        parts = [f"{self.what}: {self.done:,} of {self.total:,}"]
        new, seconds = self.done - self.first, time.monotonic() - self.began
        if new > 0 and seconds > 0:
            parts[0] += f" ({100 * self.done // max(1, self.total)} %)"
            parts.append(f"{new / seconds:.3g} a second")
            if self.done < self.total:
                parts.append(f"about {format_duration((self.total - self.done) * seconds / new)} left")
        return ", ".join([*parts, *([self.detail] if self.detail else [])])


@contextmanager
def log_periodically(
    write: Callable[[str], object], describe: Callable[[], str], interval_s: float | None = None
) -> Iterator[None]:
    """Within it `describe()` is written now and every `interval_s` or half minute, also while nothing gets done."""
    write(describe())
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(interval_s or INTERVAL_S):
            write(describe())

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def announced(write: Callable[[str], object], what: str, interval_s: float | None = None) -> Iterator[None]:
    """Within it `what ...` is written now, and how long it has been going on every half minute or `interval_s`."""
    began = time.monotonic()

    def describe() -> str:
        seconds = time.monotonic() - began
        return f"{what} ... for {format_duration(seconds)}" if seconds >= 1 else f"{what} ..."

    with log_periodically(write, describe, interval_s):
        yield


def format_duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2 h 34 min`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes >= 2 else f"{max(1, round(seconds))} s"
