"""What a start does not load: each would cost every service, also those that never use it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["torch", "training", "redis", "pandas", "matplotlib"])
def test_the_service_starts_without(module: str) -> None:
    program = f"import sys, service.server, service.command; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.parametrize("module", ["onnxruntime", "uvicorn", "service.state"])
def test_the_parent_of_workers_starts_without(module: str) -> None:
    """It only watches, and its memory comes on top of theirs."""
    program = f"import sys, service.starting, service.command; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
