"""How long to wait for a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Patience:
    """Does something after a while, unless it is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop, self._action = loop, action
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """Count from now, unless it counts already."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._action)

    def stop(self) -> None:
        """Do nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
