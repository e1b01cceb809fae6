"""A service for tests that run where none is installed: SIGHTWORD_TEST_PYTHON names the Python that has one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.service_process import Running, running

BUNDLE = Path(__file__).parents[1] / "model" / "bundled" / "sightword-small"
_PYTHON = os.environ.get("SIGHTWORD_TEST_PYTHON")


@contextmanager
def running_bundled(folder: Path, **options: Any) -> Iterator[Running]:
    """The service with the bundled model, once it is ready, and with patience: the machine may be busy."""
    if _PYTHON:
        options["python"] = _PYTHON
    with running(folder, BUNDLE, timeout_s="300", **options) as service:
        yield service
