"""What a start does not load: each would cost every service, also those that never use it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["torch", "training", "redis", "pandas", "matplotlib"])
def test_the_service_starts_without(module: str) -> None:
    program = f"import sys, service.server, service.command; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
