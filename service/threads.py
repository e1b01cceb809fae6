"""Threads for what may hang: a file system that does not answer, a device, a driver.

They are daemons: those of asyncio and concurrent.futures are waited for at the end of the process, however long.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
LOOK_S = 0.25
_running: set[threading.Thread] = set()


class StalledError(Exception):
    """Work that shows no sign of life, and was left behind."""


def start(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run in a thread of its own, at once."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()
    name = getattr(work, "__qualname__", "work")
    thread = threading.Thread(target=_settle, args=(done, lambda: work(*args, **kwargs)), name=name, daemon=True)
    _running.add(thread)
    thread.start()
    return done


def _settle(done: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as failure:  # whoever waits is told, whatever it is
        _running.discard(threading.current_thread())
        done.set_exception(failure)
    else:
        _running.discard(threading.current_thread())
        done.set_result(result)
    finally:
        del done  # its error leads back to this frame


def still_running() -> list[str]:
    """Names of what runs in such threads now. To end the interpreter under onnxruntime would abort the process."""
    return sorted(thread.name for thread in tuple(_running) if thread.is_alive())


async def in_daemon_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As asyncio.to_thread; when the one who waits is cancelled, the work goes on."""
    return await asyncio.wrap_future(start(work, *args, **kwargs))


class Watch:
    """Runs one kind of work that may hang; while one that was left behind still hangs, no other is begun."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._left: Future[Any] | None = None

    def run(self, work: Callable[[Callable[[], None]], T], drop: Callable[[T], None] = lambda _: None) -> T:
        """The result of `work`, for a thread that may wait. Raises StalledError.

        `work` calls what it is given whenever it gets on. What it gives after all, once it was left behind, is given to
        `drop`. Looks are counted, not seconds: a process that was stopped for a while has looked no more often.
        """
        if self._left is not None and not self._left.done():
            raise StalledError
        moved = threading.Event()
        done = start(work, moved.set)
        looks = 0
        while not wait([done], LOOK_S).done:
            looks = 0 if moved.is_set() else looks + 1
            moved.clear()
            if looks * LOOK_S >= self._stall_s:
                self._left = done
                done.add_done_callback(lambda late: drop(late.result()) if late.exception() is None else None)
                raise StalledError
        return done.result()
