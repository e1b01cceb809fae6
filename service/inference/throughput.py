"""Running means of what work takes, from which admission computes the expected seconds of a request."""

from __future__ import annotations

import time

WEIGHT = 1 / 64  # of one interval in the running mean; whole batches end at once, so it has to span several


class UnitCost:
    """Seconds a unit of work takes in a thread: a running mean. Observed from any thread; one lost does no harm."""

    def __init__(self, seconds_per_unit: float, span: float) -> None:
        """`seconds_per_unit` is the first guess; observations of `span` units weigh as much as all before them."""
        self.seconds_per_unit = seconds_per_unit
        self._span = span

    def observe(self, units: float, took_s: float) -> None:
        """Take in that so many units took so many seconds."""
        if units:
            self.seconds_per_unit += units / (units + self._span) * (took_s / units - self.seconds_per_unit)


class ThroughputEstimate:
    """Seconds from the end of one item of a tower to the end of the next, while any is pending: 1 / (items per second).

    A running mean; used on the event loop only.
    """

    def __init__(self, seconds_per_item: float) -> None:
        """`seconds_per_item` is the first guess, from the warm-up."""
        self.pending = 0
        self.seconds_per_item = seconds_per_item
        self._last_end = 0.0

    def start_item(self) -> None:
        """One more item is pending."""
        if not self.pending:
            self._last_end = time.perf_counter()
        self.pending += 1

    def finish_item(self, answered: bool) -> None:
        """One item less is pending; one that was cancelled or failed is not measured."""
        self.pending -= 1
        if answered:
            now = time.perf_counter()
            self.seconds_per_item += WEIGHT * (now - self._last_end - self.seconds_per_item)
            self._last_end = now
