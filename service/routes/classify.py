"""POST /classify: zero-shot classification."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.classification import zero_shot
from service.schema.answers import ClassifyAnswer
from service.schema.requests import ClassifyOptions, ClassifyRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import BodyDep
from service.web.openapi import READ_AS_HEADERS, WORK_ERRORS, body_of
from service.web.responses import json_response, write_rows

router = APIRouter(tags=["zero-shot"])


@router.post(
    "/classify",
    summary="Choose among labels",
    responses={200: {"model": ClassifyAnswer, "headers": READ_AS_HEADERS}, **WORK_ERRORS},
    openapi_extra=body_of(ClassifyRequest, ClassifyOptions),
)
async def classify(body: BodyDep, service: ServiceDep, call: RequestContextDep) -> Response:
    """Send JSON, a form with files, or an image file as the body with the options in the query (`labels=cat,dog`)."""
    items, options = await body.read(ClassifyRequest, ClassifyOptions)
    with service.model(options.model) as pipeline:
        classified = await zero_shot.classify(service, pipeline, items, options, call)
    data = await write_rows(lambda: classified.data, classified.numbers, service.shared)
    return json_response({"model": pipeline.bundle.id, "data": data, "usage": classified.usage})
