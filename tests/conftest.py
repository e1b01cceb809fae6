"""For all tests: what the libraries of others must know before they are imported, and a disk that is soon full."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ.update(DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1", LANGSMITH_TRACING="false")


class _Any(type):
    """A class that has every attribute, so that default arguments and decorators of an unused module evaluate."""

    def __getattr__(cls, name: str) -> str:
        return name


class _Anything(types.ModuleType):
    """Answers every import of a name with an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Any(name, (), {})


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
    names = [
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
        "torchvision.datasets",
        "torchvision.ops",
        "torchvision.ops.misc",
    ]
    stand_ins = {name: _Anything(name) for name in names if name not in sys.modules}
    for name, module in stand_ins.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        yield __import__("open_clip")
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


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
