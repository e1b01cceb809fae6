"""GET /health/live and /health/ready, and the paths that balancers and clients of other services ask instead.

A full queue fails neither: restarting a busy service helps nobody.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from service.errors import ApiError, error_responses
from service.schema.answers import HealthAnswer
from service.state import ServiceDep
from service.web.health_paths import LIVE_ALIASES, READY_ALIASES

router = APIRouter(tags=["health"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="The event loop answers", responses=error_responses(open_to_all=True))
async def live() -> HealthAnswer:
    """Answer, which is all there is to it."""
    return HealthAnswer(status="live")


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", summary="Send requests here", responses=error_responses("unavailable", open_to_all=True))
async def ready(service: ServiceDep) -> HealthAnswer:
    """The model is loaded, its last forward pass was good, and the service is not draining."""
    if service.draining:
        raise ApiError("unavailable", "The service is draining; send requests to another replica.")
    if not service.models.serving:
        raise ApiError("unavailable", "The model is still loading; try again shortly.")
    if not await service.ready():
        raise ApiError("unavailable", "The model fails on a probe; the operator's log says why.")
    return HealthAnswer(status="ready")


async def _live_alias() -> dict[str, Any]:
    return _with_time(await live())


async def _ready_alias(service: ServiceDep) -> dict[str, Any]:
    return _with_time(await ready(service))


def _with_time(answer: HealthAnswer) -> dict[str, Any]:
    """Infinity's clients read the seconds since 1970."""
    return {**answer.model_dump(), "unix": time.time()}


for paths, handler in ((LIVE_ALIASES, _live_alias), (READY_ALIASES, _ready_alias)):
    for path in paths:
        router.add_api_route(path, handler, methods=["GET", "HEAD"], include_in_schema=False)
