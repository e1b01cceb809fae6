"""The steps of a start, and the memory of each."""

from __future__ import annotations

import subprocess
import sys


def test_each_step_adds_what_it_is_said_to() -> None:
    command = [sys.executable, "-m", "benchmarks.memory_steps"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    totals = [float(line.split()[-2]) for line in lines]
    added = {line[:24].strip(): float(line.split()[-1]) for line in lines}
    assert next(iter(added)) == "python"
    assert added["both sessions"] > 10  # its weights
    assert added["imports of the service"] > 10
    assert abs(totals[0] + sum(added.values()) - totals[-1]) < 1
