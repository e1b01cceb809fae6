"""The door: how much work may be inside at once, told before any of it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.errors import ApiError


class Admission:
    """Counts items from admission to answer. A request larger than the limit gets in only when nobody else is."""

    def __init__(self, limit_items: int, gauge: Gauge) -> None:
        self.limit_items, self.items = limit_items, 0
        self._gauge = gauge

    def refuse_if_full(self, items: int = 1) -> None:
        """Raise `overloaded` if so many more items do not fit now."""
        if self.items and self.items + items > self.limit_items:
            raise ApiError(
                "overloaded",
                f"{self.items} items are at work or waiting and the limit is {self.limit_items}; try again shortly.",
            )

    @contextmanager
    def admit(self, items: int) -> Iterator[None]:
        """Hold places for so many items, or raise `overloaded`."""
        self.refuse_if_full(items)
        self._change(items)
        try:
            yield
        finally:
            self._change(-items)

    def _change(self, items: int) -> None:
        self.items += items
        self._gauge.set(self.items)
