"""The end of a request whose time is up, or whose client disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.errors import ApiError


class ClientDisconnectedError(Exception):
    """The client hung up; there is nobody to answer."""


class RequestCancelScope:
    """Cancels the task that enters it at a deadline, or when told to, and raises why: see `cancel`.

    Not anyio's: that costs 8 to 10 % more core time on an answer from the cache (benchmarks/STEPS.md).
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._done = False  # cancelled or left: there is nothing to cancel any more
        self._make_reason: Callable[[], Exception] | None = None  # called on leaving: a traceback holds the request

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = task.get_loop().call_later(self._timeout_s, self.cancel, self._deadline_exceeded)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._done = True
        self._timer.cancel()
        task, make_reason = self._task, self._make_reason
        del self._timer, self._task, self._make_reason  # they lead back here
        if make_reason is None:
            return
        # The server may have cancelled it as well, and that it must not forget.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise make_reason() from None

    def cancel(self, make_reason: Callable[[], Exception] = ClientDisconnectedError) -> None:
        """Cancel what is inside; what leaves the scope then is the reason, instead of CancelledError."""
        if not self._done:
            self._done, self._make_reason = True, make_reason
            self._task.cancel()

    def remove_deadline(self) -> None:
        """Let what is inside take as long as it takes, from here on."""
        self._timer.cancel()

    def _deadline_exceeded(self) -> ApiError:
        message = f"The answer was not ready within {self._timeout_s:g} s; send fewer items or allow more time."
        return ApiError("deadline_exceeded", message)
