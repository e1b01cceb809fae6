"""Writes checkpoints in a thread, while the run goes on: it waits for its copy in memory, and not for the disk."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from pathlib import Path
from types import TracebackType

from training.loop.checkpoint import Snapshot, write_checkpoint

log = logging.getLogger(__name__)


class CheckpointWriter:
    """One checkpoint at a time; until it is renamed into place, the one before is the newest.

    Used as a context it is waited for at the end.
    """

    def __init__(self, run: Path, keep: int) -> None:
        """Of `run` the last `keep` are kept."""
        self._run, self._keep = run, keep
        self._executor = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def write(self, snapshot: Snapshot) -> None:
        """Begin to write, once the one before is written. Raises OSError of that one."""
        self.wait()
        self._writing = self._executor.submit(write_checkpoint, self._run, snapshot, self._keep)

    def raise_error(self) -> None:
        """Raise OSError if a checkpoint could not be written; does not wait for one that is being written."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written. Raises OSError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def settle(self) -> None:
        """Wait until nothing is being written; an error is still raised later."""
        if self._writing is not None:
            futures_wait([self._writing])

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            self.wait()
        except OSError as lost:
            if error is None:
                raise
            log.warning("%s", lost)  # beside what ends the run
        finally:
            self._executor.shutdown()
