"""The examples, run as somebody runs them who has just read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(
    example: str, *arguments: str | Path, url: str | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Of `examples/EXAMPLE.py`, what it prints, and its exit code, which must be `code`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTWORD_")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"SIGHTWORD_URL": url} if url else {})
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done
