"""GET /health/live and /health/ready. A full queue fails neither: restarting a busy service helps nobody."""

from __future__ import annotations

from fastapi import APIRouter

from service.errors import ApiError, error_responses
from service.schema.answers import HealthAnswer
from service.state import ServiceDep

router = APIRouter(prefix="/health", tags=["health"])


@router.head("/live", include_in_schema=False)
@router.get("/live", summary="The event loop answers", responses=error_responses(open_to_all=True))
async def live() -> HealthAnswer:
    """Answer, which is all there is to it."""
    return HealthAnswer(status="live")


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Send requests here", responses=error_responses("unavailable", open_to_all=True))
async def ready(service: ServiceDep) -> HealthAnswer:
    """The model is loaded, its last forward pass was good, and the service is not draining."""
    if service.draining:
        raise ApiError("unavailable", "The service is draining; send requests to another replica.")
    if not service.models.serving:
        raise ApiError("unavailable", "The model is still loading; try again shortly.")
    if not await service.ready():
        raise ApiError("unavailable", "The model fails on a probe; the operator's log says why.")
    return HealthAnswer(status="ready")
