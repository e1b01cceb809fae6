"""The end of a request whose time is up, or whose client hung up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.errors import ApiError


class ClientGoneError(Exception):
    """The client hung up; there is nobody to answer."""


class Cutoff:
    """Cancels the task that enters it. What leaves it then is `deadline_exceeded` or ClientGoneError."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._over = False  # there is nothing to cancel any more
        self._why: Callable[[], Exception] | None = None  # made when it is raised: its traceback holds the request

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = task.get_loop().call_later(self._timeout_s, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over = True
        self._timer.cancel()
        task, why = self._task, self._why
        del self._timer, self._task, self._why  # they lead back here
        if why is None:
            return
        # The server may have cancelled it as well, and that it must not forget.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise why() from None

    def lift_deadline(self) -> None:
        """Let it take as long as it takes, from here on."""
        self._timer.cancel()

    def hang_up(self) -> None:
        """The client is gone."""
        self._end(ClientGoneError)

    def _expire(self) -> None:
        self._end(self._too_late)

    def _too_late(self) -> ApiError:
        message = f"The answer was not ready within {self._timeout_s:g} s; send fewer items or allow more time."
        return ApiError("deadline_exceeded", message)

    def _end(self, why: Callable[[], Exception]) -> None:
        if not self._over:
            self._over, self._why = True, why
            self._task.cancel()
