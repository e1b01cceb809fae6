"""What a running service holds, and how a route gets at it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import Depends, Request

from service.classification.class_vectors import ClassVectorCache
from service.classification.label_sets import LabelSets
from service.classification.zero_shot import ZeroShotClassifier
from service.errors import ApiError
from service.forwarding import ImmichForwarder
from service.inference.pipeline import Pipeline
from service.inference.shared_resources import SharedResources
from service.keys import Keys
from service.member import read_profiles
from service.metrics import Metrics
from service.models import Models
from service.reloading import Change, Reloaded
from service.request_context import RequestContext
from service.settings import Settings
from service.supervisor import is_healthy
from service.threads import run_in_daemon_thread
from service.tracing import from_environment
from service.workers.channel import ChannelError
from service.workers.worker import Worker

log = logging.getLogger(__name__)
CLOSE_S = 7.0  # more than a pull and the traces are given
PROFILES_S = 60.0  # for an answer that waits for nothing
METRICS_S = 10.0  # for all workers, twice as long as any of them is waited for
RELOAD_S = 3 * 3600.0  # for all workers; whoever asks over HTTP has less patience


class Service:
    """One running service."""

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        """Everything but the models, which `models.load` brings; `worker` is this process, one of several."""
        self.settings, self.worker = settings, worker
        self.keys = Keys(settings)
        self.metrics = Metrics()
        self.traces = from_environment()
        self.shared = SharedResources(settings, self.metrics, worker)
        self.models = Models(self.shared)
        self.label_sets = LabelSets(settings, self.metrics, None if worker is None else worker.row)
        self.classes = ClassVectorCache(self.shared, self.models.use)
        self.zero_shot = ZeroShotClassifier(settings, self.shared.pool, self.label_sets, self.classes)
        self.immich = ImmichForwarder(settings)
        self._reloads: set[asyncio.Future[list[Change]]] = set()
        self.draining = False
        self.max_connections: int | None = None  # of all workers; None where no server is before it
        self.started = time.monotonic()
        self.metrics.ready.set_function(self._seems_ready)
        self.metrics.queue_items_limit.set(settings.queue_items)
        self.metrics.queue_bytes_limit.set(settings.queue_bytes)

    def model(self, name: str | None) -> AbstractContextManager[Pipeline]:
        """The model of that id, or the default one for None; it stays the same and open in the `with`."""
        return self.models.use(self.models.find(name))

    def model_id(self) -> str:
        """The id of the first model; `model` while there is none."""
        return next((pipeline.bundle.id for pipeline in self.models.serving), "model")

    async def load(self) -> None:
        """Load the models. Where other workers run, they would disturb a measurement, and have made it already.

        Raises BundleError or EngineError.
        """
        measured: Mapping[str, Mapping[str, Sequence[Any]]] = {}
        if self.worker is not None:
            measured = await self._ask_parent("profiles", None, PROFILES_S)
        await run_in_daemon_thread(self.models.load, read_profiles(measured))

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    async def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The exposition of the service, of all its workers, and its content type, for a header `accept`."""
        if self.worker is not None:
            answer = await self._ask_parent("metrics", accept, METRICS_S)
            return answer["content"].encode(), answer["media_type"]
        await self.models.opener.record_device_memory()
        return self.metrics.render(accept)

    async def _ask_parent(self, what: str, argument: Any, timeout_s: float) -> Any:
        assert self.worker is not None
        try:
            return await self.worker.ask_parent(what, argument, timeout_s)
        except ChannelError as error:
            log.error("the parent process does not answer: %s", error)
            message = "The process that has an overview of all workers does not answer; try again shortly."
            raise ApiError("unavailable", message) from None

    async def reload(self, model: str | None = None) -> Reloaded:
        """What SIGHUP and /admin/reload do, in all workers. Raises ApiError, BundleError or EngineError."""
        if self.worker is not None:
            return Reloaded.from_json(await self._ask_parent("reload", model, RELOAD_S))
        await self.keys.reload()
        task = asyncio.ensure_future(self.models.reload(model))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        # Goes on when the one who asked has no more patience: half of a swap is none.
        try:
            return Reloaded(await asyncio.shield(task), self.keys.problem)
        finally:
            del task  # raised in this frame, its error would lead back to it, and to half a model

    async def check_stores(self) -> None:
        """Ask once for what Redis, or the folder of the label sets, must do; the log tells what cannot be done."""
        if await self.shared.cache.check():
            await self.label_sets.check()

    async def ready(self) -> bool:
        """Whether requests should be sent here."""
        pipelines = self.models.serving
        return bool(pipelines) and not self.draining and all([await is_healthy(pipeline) for pipeline in pipelines])

    def _seems_ready(self) -> float:
        """As `ready`, without a probe, for /metrics: a tower whose last run failed counts as one that would fail."""
        towers = [tower for pipeline in self.models.serving for tower in pipeline.towers]
        return bool(towers) and not self.draining and all(tower.alive and not tower.failing for tower in towers)

    async def aclose(self) -> None:
        """End threads and connections, side by side and for at most CLOSE_S; what hangs is named and left behind."""
        ends: dict[str, Coroutine[Any, Any, None]] = {
            "models": run_in_daemon_thread(self.models.close),
            "label sets": self.label_sets.aclose(),
            "connections to immich": self.immich.aclose(),
            "cache and connections": self.shared.aclose(),
        }
        if self.traces is not None:
            ends["traces"] = run_in_daemon_thread(self.traces.close)
        tasks = {asyncio.ensure_future(end): name for name, end in ends.items()}
        done, late = await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in late:
            log.warning("%s: not ended within %g s, and left behind", tasks[task], CLOSE_S)
            task.cancel()
        for task in done:
            if (error := task.exception()) is not None:
                log.warning("%s: not ended well: %r", tasks[task], error)


# Coroutines, though they wait for nothing: FastAPI runs plain functions in a thread.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _request_context(request: Request) -> RequestContext:
    context: RequestContext = request.state.context
    return context


ServiceDep = Annotated[Service, Depends(_service)]
RequestContextDep = Annotated[RequestContext, Depends(_request_context)]
