"""A job from its command to its last part: lock, plan, the parts that are not there yet, what came of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from model import __version__
from model.data.skipped_samples import SkippedSamples
from model.progress import format_duration, log_periodically
from service.bulk.folder import ERRORS, Folder
from service.bulk.job import JobError, JobRequest, Planned, refuse_other
from service.bulk.layouts import open_layout
from service.bulk.near_duplicates import check_near_duplicates, remove_near_duplicates, write_near_duplicates
from service.bulk.pipeline import PartCount
from service.bulk.progress import JobProgress, write_line
from service.bulk.sources import Kind, plan
from service.bulk.worker import PartWorker

SOME_FAILED, INTERRUPTED = 1, 130


class StoppedError(Exception):
    """Ctrl-C or SIGTERM came."""


class PartEngine(Protocol):
    """What embeds the parts: a PartWorker, or many of them on other machines."""

    request: JobRequest

    def identity(self) -> dict[str, Any]:
        """What vectors depend on beside the request, for `_job.json`."""
        ...

    def check(self, kind: Kind) -> None:
        """Raise JobError where what is of that kind cannot be embedded."""
        ...

    def best_batch(self, kind: Kind) -> int:
        """How many items are best run together."""
        ...

    def run_pending(
        self, folder: Folder, planned: Planned, advance: Callable[[int, int], object], stop: Callable[[], None]
    ) -> Iterator[PartCount]:
        """Embed and write what is not there; `advance` is told items and failures, `stop` asked and may raise."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def run(
    request: JobRequest,
    near_duplicates: float | None = None,
    open_engine: Callable[[JobRequest], PartEngine] = PartWorker,
) -> int:
    """Do the job, or what is left of it, and then look for items of this cosine; the exit code.

    Raises JobError, SourceError, SettingsError, BundleError, EngineError, OSError.
    """
    if near_duplicates is not None:
        check_near_duplicates(near_duplicates, request)
    folder = Folder(request.folder, lambda number: False)
    with folder.locked(), _interruptible() as stopped:
        found = folder.job()
        if found is not None:
            refuse_other(folder.path, found, request.described())
        try:
            with closing(open_engine(request)) as worker:
                wanted = {**request.described(), **worker.identity()}
                if found is None:
                    found = _plan(folder, worker, wanted, stopped)
                else:
                    refuse_other(folder.path, found, wanted)
                code = _embed(worker, Planned.from_job(found), stopped)
            if near_duplicates is not None:
                write_line(str(write_near_duplicates(folder.path, near_duplicates, write_line, lambda: _stop(stopped))))
        except StoppedError:
            write_line("The same command goes on.")
            return INTERRUPTED
        return code


def _plan(folder: Folder, worker: PartEngine, wanted: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
    """Write down the parts, and then the job. Returns what `_job.json` holds."""
    skipped, request = SkippedSamples(), worker.request
    parts = plan([Path(path) for path in request.inputs], request.source, skipped)
    first = next(parts, None)
    if first is None:
        raise JobError(f"there is nothing to embed in {', '.join(request.inputs)}.")
    worker.check(first.kind)
    count = 0

    def advance(rows: int) -> None:
        nonlocal count
        count += rows
        _stop(stopped)

    with log_periodically(write_line, lambda: f"planning: {count:,} items so far"):
        totals = folder.write_plan(chain([first], parts), advance)
    skipped.log_summary(write_line)
    planned = Planned(first.kind, worker.best_batch(first.kind), *totals)
    job = {**wanted, **planned._asdict(), "version": __version__}
    folder.write_job(job)
    return job


def _embed(worker: PartEngine, planned: Planned, stopped: threading.Event) -> int:
    request = worker.request
    folder = Folder(request.folder, open_layout(request, planned).is_done, request.retry_failed)
    done = folder.done(planned)
    if done.parts:
        state = "there, with nothing to try again" if request.retry_failed else "there"
        write_line(f"{done.parts:,} of {planned.parts:,} parts are {state}, {done.rows:,} items")
    if done.parts < planned.parts:
        remove_near_duplicates(folder.path)
    identity = worker.identity()
    write_line(
        f"{identity['model']}, {identity['dimensions']} dimensions, {planned.kind}s in batches of {planned.batch}"
    )
    progress, began = JobProgress(planned.rows, done.rows), time.monotonic()
    try:
        with progress.shown():
            for _ in worker.run_pending(folder, planned, progress.advance, lambda: _stop(stopped)):
                pass
    except StoppedError:
        left = planned.parts - folder.done(planned).parts
        write_line(f"interrupted: {left:,} of {planned.parts:,} parts are left, and are computed from their beginning")
        raise
    finally:
        failed = folder.join_errors(planned.parts)
    seconds, items = time.monotonic() - began, planned.rows - done.rows
    speed = f", {items / seconds:.3g} a second" if items else ""
    write_line(f"{planned.rows - failed:,} vectors in {folder.path}; {format_duration(seconds)}{speed}")
    if failed:
        write_line(f"{failed:,} of {planned.rows:,} items failed: {folder.path / ERRORS} has each with its reason")
    return SOME_FAILED if failed else 0


def _stop(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise StoppedError


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Set by Ctrl-C or SIGTERM; the second one ends the process at once, which loses no part that is there."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(number, signal.SIG_DFL)
        os.write(2, b"ending after the batches that run; once more ends at once\n")  # print may be what it interrupts

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
