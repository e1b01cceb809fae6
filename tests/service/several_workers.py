"""A service of several worker processes, and the processes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.service_process import PATIENCE_S, Running, running

COUNT = 2


@contextmanager
def several(folder: Path, bundle: Path, count: int = COUNT, **options: Any) -> Iterator[Running]:
    """The service, once all workers are ready."""
    with running(folder, bundle, workers=str(count), **{"timeout_s": "300", **options}) as service:
        wait_until(lambda: starts(service) == count)
        yield service


def starts(service: Running) -> int:
    """How often a worker has become ready."""
    return service.log().count("ready after")


def workers_of(service: Running) -> list[psutil.Process]:
    """In the order in which they were started."""
    return sorted(psutil.Process(service.process.pid).children(), key=psutil.Process.create_time)


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
