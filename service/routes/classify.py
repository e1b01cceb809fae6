"""POST /classify: zero-shot classification."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from service.schema.answers import ClassifyAnswer
from service.schema.requests import ClassifyOptions, ClassifyRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_or_files
from service.web.native_answers import answer_classify
from service.web.openapi import READ_AS_HEADERS, WORK_ERRORS

router = APIRouter(tags=["zero-shot"])


@router.post(
    "/classify",
    summary="Choose among labels",
    responses={200: {"model": ClassifyAnswer, "headers": READ_AS_HEADERS}, **WORK_ERRORS},
)
async def classify(
    request: Annotated[ClassifyRequest, json_or_files(ClassifyRequest, ClassifyOptions)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Send JSON, a form with files, or an image file as the body with the options in the query (`labels=cat,dog`)."""
    return await answer_classify(request, service, context)
