"""A daemon thread for file operations that may hang: on a dead mount it holds up neither the loop nor the exit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SerialThread:
    """Runs what it is given one after the other, in the order in which it came. Callers bound how long they wait."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `work`; cancelled before its turn, it is never run."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        future: Future[T] = Future()
        self._waiting.put((future, lambda: work(*args, **kwargs)))
        return future

    def close(self) -> None:
        """End after what was submitted; nothing is waited for."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            _settle(*job)
            del job  # else it would live until the next one comes


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # whoever waits is told, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
