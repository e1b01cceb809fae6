"""The real service with engines that break, or a start that waits for a file.

python -m tests.service.failing_service MODE [flags of the service]
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import service.supervisor
from model.runtime.engine import Engine
from service.__main__ import app
from service.models import Models

GOOD_RUNS = 60  # enough for a warm-up
engines: list[int] = []
runs: dict[int, int] = {}
embed_texts = Engine.embed_texts
mode = sys.argv.pop(1)


def breaking(self: Engine, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    if id(self) not in engines:
        engines.append(id(self))
    runs[id(self)] = runs.get(id(self), 0) + 1
    broken = runs[id(self)] > GOOD_RUNS and (mode != "once" or engines.index(id(self)) == 0)
    if broken and mode == "stuck":
        threading.Event().wait()
    if broken and mode == "thread":
        raise SystemExit  # no Exception: it ends the thread
    if broken:
        raise RuntimeError("the device is gone")
    return embed_texts(self, token_ids)


def load_later(self: Models, *known: Any) -> None:
    while not Path(mode).exists():
        time.sleep(0.02)
    load(self, *known)


load = Models.load
replacement: Any
if "/" in mode:
    replacement = load_later
    Models.load = replacement  # type: ignore[method-assign]
else:
    replacement = breaking
    Engine.embed_texts = replacement  # type: ignore[method-assign]
if mode == "stuck":
    service.supervisor.STUCK_S = 1.0
app()
