"""The real service on a simulated GPU; each shape that it meets for the first time is a line in its log.

python -m tests.service.simulated_gpu_service JSON [flags of the service], JSON being fields of SimulatedGpu; "hangs"
and "lost" there are files: it hangs, or is lost, while one exists.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import service.models
import service.supervisor
from service.__main__ import app
from tests.service.simulated_gpu import SimulatedEngine, SimulatedGpu

log = logging.getLogger("simulated GPU")
habits: dict[str, Any] = json.loads(sys.argv.pop(1))
switches = {name: Path(habits.pop(name)) for name in ("hangs", "lost") if name in habits}


class LoggingGpu(SimulatedGpu):
    def run(self, tower: str, shape: tuple[int, ...], known: set[tuple[str, tuple[int, ...]]]) -> None:
        for name, file in switches.items():
            setattr(self, name, file.exists())
        if (tower, shape) not in known:
            log.warning("cold shape: %s %s", tower, shape)
        super().run(tower, shape, known)


service.models.Engine = SimulatedEngine.on(LoggingGpu(**habits))  # type: ignore[attr-defined]
service.supervisor.STUCK_S = 2.0
app()
