"""POST /admin/reload: the operator and a running service. The admin key is asked for before anything gets here."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from model.manifest import BundleError
from model.runtime.engine import EngineError
from service.errors import error_responses
from service.schema.answers import ReloadAnswer, ReloadedModel
from service.state import ServiceDep

router = APIRouter(prefix="/admin", tags=["operation"])
log = logging.getLogger(__name__)


@router.post(
    "/reload",
    summary="Swap in what the bundle folders hold now",
    response_model_exclude_none=True,
    responses=error_responses(
        "invalid_request", "invalid_bundle", "body_too_large", "model_not_found", "deadline_exceeded", "unavailable"
    ),
)
async def reload(
    service: ServiceDep, model: Annotated[str | None, Query(description="only this one; all if not given")] = None
) -> ReloadAnswer:
    """Verify, open and warm up, then switch at once: all models or, if one is refused, none.

    Requests at work end with the model they began with. What SIGHUP does, with an answer.
    """
    try:
        reloaded = await service.reload(model)
    except (BundleError, EngineError) as error:
        log.error("nothing was reloaded, what was served still is: %s", error)
        raise service.models.refusal(error) from None
    return ReloadAnswer(
        models=[ReloadedModel(**asdict(change)) for change in reloaded.changes],
        api_keys_problem=reloaded.keys_problem,
    )
