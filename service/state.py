"""What a running service holds, and how a route gets at it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from model.bundle import Bundle, bundled
from model.engine import Engine
from service.errors import ApiError
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import Settings
from service.timing import Call


@dataclass(slots=True)
class Service:
    """One running service."""

    settings: Settings
    metrics: Metrics
    pipeline: Pipeline
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def load(cls, settings: Settings) -> Service:
        """Verify the bundle, open it and warm it up. Raises BundleError or EngineError."""
        bundle = Bundle.load(settings.model or bundled())
        engine = Engine(bundle, settings.provider)
        metrics = Metrics()
        return cls(settings, metrics, Pipeline(bundle, engine, settings, metrics))

    def find(self, model: str | None) -> Pipeline:
        """The model of that id; the default one for None."""
        served = self.pipeline.bundle.id
        if model is not None and model != served:
            raise ApiError("model_not_found", f"No model of this name is served here; there is {served}.", "model")
        return self.pipeline

    async def ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.draining and await self.pipeline.healthy()

    def close(self) -> None:
        """End the threads."""
        self.pipeline.close()


# Coroutines, though they wait for nothing: FastAPI runs plain functions in a thread.
async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _call(request: Request) -> Call:
    call: Call = request.state.call
    return call


ServiceDep = Annotated[Service, Depends(_service)]
CallDep = Annotated[Call, Depends(_call)]
