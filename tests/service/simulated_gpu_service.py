"""The real service on a simulated GPU; each shape that it meets for the first time is a line in its log.

python -m tests.service.simulated_gpu_service JSON [flags of the service], JSON being fields of SimulatedGpu. Files
there are "hangs" and "lost" (it does, or is, while the file exists), and "room", of how many items it has memory for.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import service.device_memory
import service.opening
import service.supervisor
from service.__main__ import app
from tests.service.simulated_gpu import SimulatedEngine, SimulatedGpu

log = logging.getLogger("simulated GPU")
habits: dict[str, Any] = json.loads(sys.argv.pop(1))
room = Path(habits.pop("room")) if "room" in habits else None
switches = {name: Path(habits.pop(name)) for name in ("hangs", "lost") if name in habits}


class LoggingGpu(SimulatedGpu):
    def run(self, tower: str, shape: tuple[int, ...], known: set[tuple[str, tuple[int, ...]]]) -> None:
        for name, file in switches.items():
            setattr(self, name, file.exists())
        if room is not None:
            self.largest = dict.fromkeys(self.item_s, int(room.read_text()))
        if (tower, shape) not in known:
            log.warning("cold shape: %s %s", tower, shape)
        super().run(tower, shape, known)


gpu = LoggingGpu(**habits)
service.opening.Engine = SimulatedEngine.on(gpu)  # type: ignore[attr-defined]
service.device_memory.choose = lambda provider: ["cuda"]  # type: ignore[attr-defined]
service.device_memory.read_device_memory = gpu.memory  # type: ignore[attr-defined]
service.supervisor.STUCK_S = 2.0
app()
