"""Health: whether a model can answer, and a watch that opens a failing engine again once.

What that does not cure ends the process, which is then for the orchestrator to start again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from model.runtime.engine import SHORTEST_ROW, token_row
from service.errors import ApiError
from service.inference.batcher import Batcher
from service.inference.fair_queue import abandon
from service.inference.pipeline import Pipeline
from service.metrics import Metrics
from service.models import Models
from service.request_context import Timing

log = logging.getLogger(__name__)
LOOK_S = 0.5
STUCK_S = 120.0  # a run that takes longer never ends; first runs of a shape, which may, are over before it serves
FORGIVEN_S = 600.0  # a failure so long after the last one counts as a first one
PROBE_S = 5.0


async def is_healthy(pipeline: Pipeline, timeout_s: float = PROBE_S) -> bool:
    """Whether both towers run. One whose last execution failed has to prove itself with a forward pass."""
    if not all(tower.alive for tower in pipeline.towers):
        return False
    size = pipeline.bundle.image_size
    probes: list[tuple[Batcher, Any]] = [
        (pipeline.images, np.zeros((size, size, 3), np.uint8)),
        (pipeline.texts, token_row(pipeline.bundle, SHORTEST_ROW)[0].tolist()),
    ]
    try:
        futures = [
            future
            for tower, probe in probes
            if tower.failing
            for future in tower.submit([probe], Timing(), urgent=True)
        ]
    except ApiError:
        return False
    if futures:
        await asyncio.wait(futures, timeout=timeout_s)
    passed = [future.done() and future.exception() is None for future in futures]
    abandon(futures)
    return all(passed)


class Supervisor:
    """Watches the engines of all models. `give_up` is called with the reason when the process should end."""

    def __init__(self, models: Models, metrics: Metrics, give_up: Callable[[str], None]) -> None:
        self._models, self._metrics, self._give_up = models, metrics, give_up
        self._last_restart = -FORGIVEN_S
        self._looks: WeakKeyDictionary[Batcher, tuple[float | None, int]] = WeakKeyDictionary()  # run, times seen

    async def watch(self) -> None:
        """Look again and again."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                for pipeline in self._models.serving:
                    await self._look_at(pipeline)
        except Exception:
            log.exception("the watch over the engines failed")
            self._give_up("nobody watches the engines any more")

    async def _look_at(self, pipeline: Pipeline) -> None:
        if any(self._is_stuck(tower) for tower in pipeline.towers):
            return self._give_up(f"a run of {pipeline.bundle.id} has not come back for {STUCK_S:g} s")
        if not any(tower.failing or not tower.alive for tower in pipeline.towers):
            return None
        if await is_healthy(pipeline, STUCK_S) or pipeline not in self._models.serving:
            return None
        return await self._restart(pipeline)

    def _is_stuck(self, tower: Batcher) -> bool:
        """Counts looks, not seconds: a process that was stopped for a while has looked no more often than it ran."""
        running = tower.running_since
        before, looks = self._looks.get(tower, (None, 0))
        looks = looks + 1 if running is not None and running == before else 0
        self._looks[tower] = (running, looks)
        return looks * LOOK_S > STUCK_S

    async def _restart(self, pipeline: Pipeline) -> None:
        name = pipeline.bundle.id
        if time.monotonic() - self._last_restart < FORGIVEN_S:
            return self._give_up(f"{name} fails again after its engine was opened anew")
        self._last_restart = time.monotonic()
        log.error("%s fails on a probe; opening its engine anew", name)
        self._metrics.engine_restarts.inc()
        try:
            await self._models.reopen(pipeline)
        except Exception as error:  # whatever it is, nothing serves any more
            self._give_up(f"{name} cannot be opened anew: {error}")
