"""Opening a model: its engine and its pipeline, warm, within a time, and on a GPU only where there is room for it."""

from __future__ import annotations

from collections.abc import Mapping

from model.bundle import Bundle
from model.runtime.engine import Engine, EngineError, trim_heap
from service.device_memory import DeviceMemoryReader, refuse_without_room
from service.inference.pipeline import Pipeline
from service.inference.shared_resources import SharedResources
from service.inference.warmup import TowerProfile
from service.threads import StalledError, Watchdog

OPEN_S = 1800.0  # for an engine and its warm-up; TensorRT builds one for many minutes


class Opener:
    """Opens one model after another."""

    def __init__(self, shared: SharedResources) -> None:
        self._shared = shared
        self._watchdog = Watchdog(OPEN_S)
        self.device_memory = DeviceMemoryReader(shared.settings.provider, shared.settings.device)

    async def record_device_memory(self) -> None:
        """Set the gauges of the GPU's memory, where there is one."""
        memory = await self.device_memory.current()
        if memory is not None:
            self._shared.metrics.record_device_memory(memory.total, memory.free)

    def open(
        self,
        bundle: Bundle,
        profiles: Mapping[str, TowerProfile] | None = None,
        predecessor: Pipeline | None = None,
        copies: int = 1,
    ) -> Pipeline:
        """A warm pipeline, for a thread that may wait; with `profiles`, none are measured.

        Raises EngineError, also where there is no room on a GPU for it beside its predecessor, which goes on serving:
        for so many `copies` of it, where other processes are to open it after this one; 0 where one has looked for all.
        """
        try:
            pipeline = self._watchdog.run(
                lambda _: self._open(bundle, profiles, predecessor, copies), drop=Pipeline.close
            )
        except StalledError:
            raise EngineError(f"the engine of {bundle.id} has not been opened within {OPEN_S:g} s") from None
        trim_heap()
        return pipeline

    def _open(
        self, bundle: Bundle, profiles: Mapping[str, TowerProfile] | None, predecessor: Pipeline | None, copies: int
    ) -> Pipeline:
        before = self.device_memory.read()
        if before is not None and predecessor is not None:
            refuse_without_room(bundle, predecessor.bundle, predecessor.device_bytes, before, copies)
        shared = self._shared
        engine = Engine(bundle, shared.settings.provider, device=shared.device, shared=shared.weights)
        pipeline = Pipeline(bundle, engine, self._shared, profiles)
        after = self.device_memory.read()
        if before is not None and after is not None:
            pipeline.device_bytes = max(0, before.free - after.free)
        return pipeline
