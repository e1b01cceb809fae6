"""Lets a few requests begin in each turn of the event loop, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque

A_TURN = 8


class Turnstile:
    """Keeps the turns of the loop short when more requests come than it can serve.

    Without it, all that came in during one long turn begin together in the next one, which is then as long: refusals
    and health checks wait behind a thousand requests, and the queue fills and empties in waves.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = A_TURN
        self._turning = False

    async def wait(self) -> None:
        """Return when it is this request's turn; at once unless many came in together."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn)
        if self._left:
            self._left -= 1
            return
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        await future

    def _turn(self) -> None:
        self._left = A_TURN
        while self._waiting and self._left:
            future = self._waiting.popleft()
            if not future.done():  # else its client left, or its time is up
                future.set_result(None)
                self._left -= 1
        self._turning = self._left < A_TURN
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)
