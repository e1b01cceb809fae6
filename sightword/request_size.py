"""How many items go into one request: few where the model is slow, lest it runs into the deadline of the service."""

from __future__ import annotations

FIRST_ITEMS = 16
AIM_S = 2.0  # what one request is to take


class RequestSize:
    """Grows from `FIRST_ITEMS` as far as `most`, by what requests took."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.items = min(FIRST_ITEMS, most)

    def observe(self, items: int, seconds: float) -> None:
        """A request of so many items took so long."""
        aim = int(items * AIM_S / max(seconds, 1e-3))
        self.items = max(1, min(aim, 2 * self.items, self._most))
