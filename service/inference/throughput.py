"""How long things take, as running means: what tells how much work a request is."""

from __future__ import annotations

import time

WEIGHT = 1 / 64  # of one interval in the running mean; whole batches end at once, so it has to span several


class Rate:
    """Seconds that a unit of something takes. Noted from any thread; a note that is lost does no harm."""

    def __init__(self, seconds: float, span: float) -> None:
        """`seconds` is the first guess; so many units, `span`, weigh as much as all before them."""
        self.seconds = seconds
        self._span = span

    def note(self, units: float, took_s: float) -> None:
        """So many units took so long."""
        if units:
            self.seconds += units / (units + self._span) * (took_s / units - self.seconds)


class Pace:
    """Averages the time from the end of one item of a tower to the next, while any is at work. On the event loop."""

    def __init__(self, seconds_per_item: float) -> None:
        """`seconds_per_item` is the first guess, from the warm-up."""
        self.pending = 0
        self.item_s = seconds_per_item
        self._last = 0.0

    def begin(self) -> None:
        """One more item."""
        if not self.pending:
            self._last = time.perf_counter()
        self.pending += 1

    def end(self, answered: bool) -> None:
        """One item less; one that was given up says nothing about the pace."""
        self.pending -= 1
        if answered:
            now = time.perf_counter()
            self.item_s += WEIGHT * (now - self._last - self.item_s)
            self._last = now
