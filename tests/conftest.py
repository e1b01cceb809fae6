"""For all tests: what the libraries of others must know before they are imported, and a disk that is soon full."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ.update(DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1", LANGSMITH_TRACING="false", ORT_DISABLE_TELEMETRY="1")


SHIMS = Path(__file__).parent / "shims"  # on PYTHONPATH for processes that import open_clip


@pytest.fixture(scope="session")
def open_clip() -> Iterator[Any]:
    """open_clip and timm; the test is skipped where they are not installed."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    with imported_open_clip() as module:
        yield module


@contextmanager
def imported_open_clip() -> Iterator[Any]:
    """open_clip without the torchvision that it imports for preprocessing: no CPU build is published."""
    there = importlib.util.find_spec("torchvision") is not None
    if not there:
        sys.path.insert(0, str(SHIMS))
    try:
        yield __import__("open_clip")
    finally:
        if not there:
            sys.path.remove(str(SHIMS))
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
