"""POST /classify: zero-shot classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from orjson import Fragment

from service import zero_shot
from service.body import BodyDep
from service.openapi import WORK_ERRORS, body_of
from service.responses import json_response
from service.schemas import ClassifyAnswer, ClassifyOptions, ClassifyRequest
from service.state import CallDep, ServiceDep

router = APIRouter(tags=["zero-shot"])
PREDICTIONS_INLINE = 10_000  # up to here, writing them takes about 1 ms


@router.post(
    "/classify",
    summary="Choose among labels",
    responses={200: {"model": ClassifyAnswer}, **WORK_ERRORS},
    openapi_extra=body_of(ClassifyRequest, ClassifyOptions),
)
async def classify(body: BodyDep, service: ServiceDep, call: CallDep) -> Response:
    """Send JSON, or an image file as the body with the options in the query (`labels=cat,dog`)."""
    items, options = await body.read(ClassifyRequest, ClassifyOptions)
    with service.model(options.model) as pipeline:
        classified = await zero_shot.classify(service, pipeline, items, options, call)
    data: Sequence[object] = classified.data
    if sum(len(entry.get("predictions", ())) for entry in classified.data) > PREDICTIONS_INLINE:
        data = await service.shared.in_thread(_written, classified.data)
    return json_response({"model": pipeline.bundle.id, "data": data, "usage": classified.usage})


def _written(entries: Sequence[dict[str, Any]]) -> list[Fragment]:
    """One by one, because writing JSON holds up every other thread."""
    return [Fragment(bytes(json_response(entry).body)) for entry in entries]
