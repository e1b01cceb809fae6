"""What a run costs: the time of its steps, and the most memory that its process held."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.files import write_atomically
from training.metrics import METRICS, read_records

PEAK_MEMORY = "peak_memory.json"


def training_costs(run: Path, batch_size: int) -> dict[str, float]:
    """Seconds of all steps and of the median one, and the peak memory of the process that trained, in bytes.

    By the lines of metrics.jsonl, which has each step once also where a run was killed and gone on with.
    """
    steps = [batch_size / record["samples_per_s"] for record in read_records(run / METRICS)]
    costs = {"training_s": sum(steps), "step_s": statistics.median(steps)}
    if (run / PEAK_MEMORY).exists():
        costs |= json.loads((run / PEAK_MEMORY).read_text("utf-8"))
    return costs


class PeakMemory:
    """A logger that keeps the peak memory of the process that trains, of all processes that did where one was killed.

    On a GPU also what torch held there.
    """

    def __init__(self, run: Path) -> None:
        """What an earlier process of the same run reached counts, too."""
        self._file = run / PEAK_MEMORY
        self._peaks: dict[str, int] = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}

    def log(self, record: Mapping[str, Any]) -> None:
        """Note a new peak."""
        now = {"memory_bytes": peak_memory_bytes()}
        if torch.cuda.is_available():
            now["gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
        if any(value > self._peaks.get(name, 0) for name, value in now.items()):
            self._peaks = {name: max(value, self._peaks.get(name, 0)) for name, value in now.items()}
            with write_atomically(self._file) as draft:
                draft.write_text(json.dumps(self._peaks) + "\n", "utf-8")

    def close(self) -> None:
        """Nothing is open."""


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far.

    Linux tells it of the program itself; `getrusage`, which is asked elsewhere, begins with that of the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:")]
        return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
