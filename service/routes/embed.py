"""POST /embed: vectors for texts and images, mixed freely."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from service.schema.answers import EmbedAnswer
from service.schema.requests import EmbedOptions, EmbedRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_or_files
from service.web.native_answers import answer_embed
from service.web.openapi import WORK_ERRORS
from service.web.responses import NPY, RAW

router = APIRouter(tags=["embeddings"])
MATRIX = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/embed",
    summary="Embed texts and images",
    responses={
        200: {
            "model": EmbedAnswer,
            "description": "In the order of the inputs.",
            "content": {NPY: MATRIX, RAW: MATRIX},
        },
        **WORK_ERRORS,
    },
)
async def embed(
    request: Annotated[EmbedRequest, json_or_files(EmbedRequest, EmbedOptions)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Send JSON, a form with files, or an image file as the body with the options in the query.

    Answers JSON, or with `Accept: application/x-npy` or `application/octet-stream` one float32 matrix.
    """
    return await answer_embed(request, service, context)
