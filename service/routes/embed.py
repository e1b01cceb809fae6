"""POST /embed: vectors for texts and images, mixed freely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Response

from service.inference.records import EmbeddingResult
from service.schema.answers import EmbedAnswer
from service.schema.requests import EmbedOptions, EmbedRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_or_files
from service.web.openapi import WORK_ERRORS
from service.web.responses import (
    ENCODERS,
    NPY,
    RAW,
    binary_response,
    check_dimensions,
    json_response,
    negotiate_binary_type,
    reduce_dimensions,
    serialize_rows,
)

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
    media_type = negotiate_binary_type(context.headers.get(b"accept", b"").decode("latin-1"), request)
    with service.model(request.model) as pipeline:
        check_dimensions(request.dimensions, pipeline.bundle)
        embedded = await pipeline.embed(
            request.inputs, context, truncate=request.truncate, keep_errors=request.on_error == "item"
        )
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(embedded.vectors, request.dimensions, request.normalize)
        if media_type is not None:
            return binary_response(vectors, media_type)
        data = await serialize_rows(
            lambda: _entries(ENCODERS[request.encoding_format](vectors), embedded), vectors.size, service.shared
        )
        return json_response({"model": pipeline.bundle.id, "data": data, "usage": embedded.usage})


def _entries(rows: Iterable[object], embedded: EmbeddingResult) -> Iterator[dict[str, Any]]:
    return (_entry(index, row, embedded) for index, row in enumerate(rows))


def _entry(index: int, row: object, embedded: EmbeddingResult) -> dict[str, Any]:
    if error := embedded.errors.get(index):
        return {"index": index, "error": error.detail()}
    return {"index": index, "embedding": row, "truncated": embedded.truncated[index]}
