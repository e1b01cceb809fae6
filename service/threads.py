"""Daemon threads for what may hang: a file system that does not answer, a device, a driver.

Threads of asyncio and concurrent.futures are waited for at the end of the process, however long; these are not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
POLL_S = 0.25
_running: set[threading.Thread] = set()


class StalledError(Exception):
    """A call made no progress for too long, and was abandoned."""


def start(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run in a new thread, at once."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    name = getattr(work, "__qualname__", "work")
    arguments = (future, lambda: work(*args, **kwargs), lambda: _running.discard(threading.current_thread()))
    thread = threading.Thread(target=_complete, args=arguments, name=name, daemon=True)
    _running.add(thread)
    thread.start()
    return future


def _complete(future: Future[Any], work: Callable[[], Any], before: Callable[[], None] = lambda: None) -> None:
    """Give a future the result or the error of `work`, whatever it is; `before` is called just before that."""
    try:
        result = work()
    except BaseException as error:
        before()
        future.set_exception(error)
    else:
        before()
        future.set_result(result)
    finally:
        del future  # its error leads back to this frame


def still_running() -> list[str]:
    """Names of what `start` runs now. To end the interpreter under onnxruntime would abort the process."""
    return sorted(thread.name for thread in tuple(_running) if thread.is_alive())


async def run_in_daemon_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like `asyncio.to_thread`, in a new daemon thread; when the waiting task is cancelled, the call goes on."""
    return await asyncio.wrap_future(start(work, *args, **kwargs))


class SerialThread:
    """A daemon thread that runs one call after another, in the order of `submit`. Callers bound how long they wait."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of a call; cancelled before its turn, it is never run."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, lambda: work(*args, **kwargs)))
        return future

    def close(self) -> None:
        """End the thread after what was submitted, without waiting for it."""
        self._queue.put(None)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if job[0].set_running_or_notify_cancel():
                _complete(*job)
            del job  # else it would live until the next one comes


class Watchdog:
    """Runs calls that may hang, one kind of them; while an abandoned one still hangs, no other is started."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._abandoned: Future[Any] | None = None

    def run(self, work: Callable[[Callable[[], None]], T], drop: Callable[[T], None] = lambda _: None) -> T:
        """The result of `work`, for a thread that may wait. Raises StalledError after `stall_s` without progress.

        `work` is called with a function, which it calls whenever it makes progress. The result of an abandoned call is
        passed to `drop`. Polls are counted, not seconds: a process that was stopped for a while has polled no more.
        """
        if self._abandoned is not None and not self._abandoned.done():
            raise StalledError
        progress = threading.Event()
        done = start(work, progress.set)
        polls = 0
        while not wait([done], POLL_S).done:
            polls = 0 if progress.is_set() else polls + 1
            progress.clear()
            if polls * POLL_S >= self._stall_s:
                self._abandoned = done
                done.add_done_callback(lambda late: drop(late.result()) if late.exception() is None else None)
                raise StalledError
        return done.result()
