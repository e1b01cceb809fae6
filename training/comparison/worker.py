"""One training of a comparison in a process of its own, so that its memory is its own and nothing of it stays.

Started by `training.comparison.supervisor`, which writes a request, a line of JSON, to its input and holds that open.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.requirements import needs

MEASURED, FAILED, PEAK_MEMORY = "measured.json", "failed.json", "peak_memory.json"


def main() -> int:
    """Train, export and measure as the request says; what came of it lies in the folder of the run."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    run = Path(request["run"])
    try:
        with needs("training"):
            _train_and_measure(request, run)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        _write(run / FAILED, {"reason": _reason(error)})
        return 1
    return 0


def _train_and_measure(request: Mapping[str, Any], run: Path) -> None:
    from model.bundle import Bundle
    from training.comparison.config import Measure
    from training.comparison.measure import BundleMeasurement, measure_costs
    from training.config import TrainConfig
    from training.report.loggers import LoggerConfig
    from training.run import RESULTS, train_and_export

    class WithPeakMemory(LoggerConfig):
        @contextmanager
        def open(self, config: TrainConfig, run: Path, step: int) -> Iterator[list[Any]]:
            with super().open(config, run, step) as loggers:
                yield [*loggers, PeakMemory(run)]

    config, base = TrainConfig.model_validate(request["config"]), Path(request["base"])
    measurement = BundleMeasurement(Measure.model_validate(request["measure"]), base, config)
    train_and_export(config, base, run, WithPeakMemory(tensorboard=False), measurement)
    record = {
        "measure": request["measure"],
        "config": request["config"],
        "results": json.loads((run / RESULTS).read_text("utf-8")),
        "refused": measurement.refused,
        "costs": {**measure_costs(Bundle.load(run / "bundle")), **training_costs(run, config.batch_size)},
    }
    _write(run / MEASURED, record)


def training_costs(run: Path, batch_size: int) -> dict[str, float]:
    """Seconds of all steps and of the median one, and the peak memory of the process that trained, in bytes.

    By the lines of metrics.jsonl, which has each step once also where a run was killed and gone on with.
    """
    import statistics

    from training.metrics import METRICS

    lines = (run / METRICS).read_text("utf-8").splitlines()
    steps = [batch_size / json.loads(line)["samples_per_s"] for line in lines]
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
        import torch

        now = {"memory_bytes": peak_memory_bytes()}
        if torch.cuda.is_available():
            now["gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
        if any(value > self._peaks.get(name, 0) for name, value in now.items()):
            self._peaks = {name: max(value, self._peaks.get(name, 0)) for name, value in now.items()}
            _write(self._file, self._peaks)

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


def _reason(error: BaseException) -> str:
    """What a user is told; a mistake of the program has the name of its error."""
    kind = type(error)
    told = kind.__module__ != "builtins" or isinstance(error, (FloatingPointError, OSError, SystemExit))
    text = str(error).strip() or kind.__name__
    return text if told else f"a mistake of the program, {kind.__name__}: {text}"


def _write(file: Path, record: Mapping[str, Any]) -> None:
    from model.files import write_atomically

    with write_atomically(file) as draft:
        draft.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _end_with_parent() -> None:
    """Whoever started this process holds its input open: where that ends, however, so does this, at once."""
    while os.read(sys.stdin.fileno(), 4096):  # past Python's buffer, whose lock would be held when this process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
