"""How a request ends early: its time is up, its client hung up, or the server gives up on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import ApiError
from service.web.cancel_scope import ClientDisconnectedError, RequestCancelScope


def ending(
    act: Callable[[RequestCancelScope, asyncio.Task[Any]], object], timeout_s: float = 20.0
) -> BaseException | None:
    """What a task ends with that waits inside a cancel scope while somebody acts."""

    async def scenario() -> BaseException | None:
        cancel_scope = RequestCancelScope(timeout_s)

        async def work() -> None:
            with cancel_scope:
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        act(cancel_scope, task)
        await asyncio.wait([task], timeout=20)
        return None if task.cancelled() else task.exception()

    return asyncio.run(scenario())


def test_its_time_is_up() -> None:
    error = ending(lambda cancel_scope, task: None, timeout_s=0.01)
    assert isinstance(error, ApiError)
    assert (error.code, "0.01 s" in error.message) == ("deadline_exceeded", True)


def test_its_client_is_gone() -> None:
    assert isinstance(ending(lambda cancel_scope, task: cancel_scope.cancel()), ClientDisconnectedError)


def test_the_server_gives_up_on_it() -> None:
    """Also when the client leaves in the same moment: a task that was cancelled must end cancelled."""
    assert ending(lambda cancel_scope, task: task.cancel()) is None

    def both(cancel_scope: RequestCancelScope, task: asyncio.Task[Any]) -> None:
        cancel_scope.cancel()
        task.cancel()

    assert ending(both) is None


def test_an_answer_that_has_begun_has_no_deadline() -> None:
    async def scenario() -> None:
        with RequestCancelScope(0.01) as cancel_scope:
            cancel_scope.remove_deadline()
            await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_who_hangs_up_afterwards_cancels_nothing() -> None:
    async def scenario() -> str:
        with RequestCancelScope(20) as cancel_scope:
            await asyncio.sleep(0)
        cancel_scope.cancel()
        await asyncio.sleep(0.01)
        return "went on"

    assert asyncio.run(scenario()) == "went on"


def test_another_failure_goes_before() -> None:
    async def work() -> None:
        with RequestCancelScope(20) as cancel_scope:
            cancel_scope.cancel()
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                raise KeyError from None

    async def scenario() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(KeyError):
            await work()
        assert not task.cancelling()

    asyncio.run(scenario())
