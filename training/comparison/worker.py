"""One training of a comparison in a process of its own, so that its memory is its own and nothing of it stays.

Started by `training.comparison.supervisor`, which writes a request, a line of JSON, to its input and holds that open.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.requirements import needs

MEASURED, FAILED = "measured.json", "failed.json"


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
    from training.report.costs import training_costs
    from training.report.loggers import LoggerConfig
    from training.run import RESULTS, train_and_export

    config, base = TrainConfig.model_validate(request["config"]), Path(request["base"])
    measurement = BundleMeasurement(Measure.model_validate(request["measure"]), base, config)
    train_and_export(config, base, run, LoggerConfig(tensorboard=False), measurement)
    record = {
        "measure": request["measure"],
        "config": request["config"],
        "results": json.loads((run / RESULTS).read_text("utf-8")),
        "refused": measurement.refused,
        "costs": {**measure_costs(Bundle.load(run / "bundle")), **training_costs(run, config.batch_size)},
    }
    _write(run / MEASURED, record)


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
