"""How fast a tower gets through its items: what tells how long a new one would wait."""

from __future__ import annotations

import time

WEIGHT = 1 / 64  # of one interval in the running mean; whole batches end at once, so it has to span several


class Pace:
    """Counts what is at work and averages the time from one end to the next. Lives on the event loop."""

    def __init__(self, seconds_per_item: float) -> None:
        """`seconds_per_item` is the first guess, from the warm-up."""
        self.pending = 0
        self._item_s = seconds_per_item
        self._last = 0.0

    @property
    def wait_s(self) -> float:
        """How long what is at work now will take."""
        return self.pending * self._item_s

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
            self._item_s += WEIGHT * (now - self._last - self._item_s)
            self._last = now
