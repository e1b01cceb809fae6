"""A semaphore for threads, whose `release` lets go of the interpreter's lock while it wakes another thread."""

from __future__ import annotations

import os


class WakeUps:
    """Counts from 0; made of a pipe, whose ends `close` gives back.

    Those of `threading` are released with the interpreter's lock held. The kernel likes to run a thread that is woken
    on the core of the one that woke it: that one then waits for a core, and all threads of Python wait for the lock.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    def acquire(self) -> None:
        """Wait for a `release`, each of which ends one wait."""
        os.read(self._reading, 1)

    def release(self, times: int = 1) -> None:
        """Let so many threads go on, or as many of the next ones."""
        if times:
            os.write(self._writing, bytes(times))

    def close(self) -> None:
        """Give back the descriptors; nobody may wait any more."""
        os.close(self._reading)
        os.close(self._writing)
