"""Watches the engines: one that fails is opened again once; what that does not cure is left to the orchestrator."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from model.bundle import BundleError
from model.engine import EngineError
from service.state import Service
from service.work.pipeline import Pipeline

log = logging.getLogger(__name__)
LOOK_S = 0.5
STUCK_S = 120.0  # a run that takes longer never ends
FORGIVEN_S = 600.0  # a failure so long after the last one counts as a first one


class Supervisor:
    """`give_up` is called with the reason when the process should end."""

    def __init__(self, service: Service, give_up: Callable[[str], None]) -> None:
        self._service, self._give_up = service, give_up
        self._last_restart = -FORGIVEN_S

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_S)
            for pipeline in self._service.models.serving:
                await self._look_at(pipeline)

    async def _look_at(self, pipeline: Pipeline) -> None:
        now = time.perf_counter()
        for tower in pipeline.towers:
            if tower.running_since is not None and now - tower.running_since > STUCK_S:
                self._give_up(f"the {tower.tower} tower of {pipeline.bundle.id} has not come back for {STUCK_S:g} s")
        if any(tower.failing or not tower.alive for tower in pipeline.towers) and not await pipeline.healthy():
            await self._restart(pipeline)

    async def _restart(self, pipeline: Pipeline) -> None:
        name = pipeline.bundle.id
        if time.monotonic() - self._last_restart < FORGIVEN_S:
            return self._give_up(f"{name} fails again after its engine was opened anew")
        self._last_restart = time.monotonic()
        log.error("%s fails on a probe; opening its engine anew", name)
        self._service.metrics.engine_restarts.inc()
        try:
            await self._service.models.reopen(pipeline)
        except (BundleError, EngineError) as error:
            self._give_up(f"{name} cannot be opened anew: {error}")
