"""POST /clip/embed_image, /clip/embed_text and /clip/compare: what clients of Roboflow's inference server call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response

from service.request_context import RequestContext
from service.schema.compat.errors import FLAT
from service.schema.compat.roboflow import (
    CompareAnswer,
    CompareRequest,
    EmbeddingsByOrder,
    EmbedImageRequest,
    EmbedTextRequest,
)
from service.schema.items import Item
from service.state import RequestContextDep, Service, ServiceDep
from service.web.auth import QUERY_KEY, QUERY_KEY_PREFIX
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import json_response, serialize_rows

router = APIRouter(prefix=QUERY_KEY_PREFIX, tags=["Roboflow"])
ERRORS = compatible_errors(FLAT)


@router.post("/embed_image", summary="Embed images (Roboflow)", responses={200: {"model": EmbeddingsByOrder}, **ERRORS})
async def embed_image(
    request: Annotated[EmbedImageRequest, json_body(EmbedImageRequest, QUERY_KEY)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer a vector for each image."""
    return await _embed(request.clip_version_id, request.image, service, context)


@router.post("/embed_text", summary="Embed texts (Roboflow)", responses={200: {"model": EmbeddingsByOrder}, **ERRORS})
async def embed_text(
    request: Annotated[EmbedTextRequest, json_body(EmbedTextRequest, QUERY_KEY)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer a vector for each text."""
    return await _embed(request.clip_version_id, request.text, service, context)


async def _embed(model: str | None, items: Sequence[Item], service: Service, context: RequestContext) -> Response:
    with service.model(model) as pipeline:
        vectors = (await pipeline.embed(items, context, truncate=None, keep_errors=False)).vectors
    with context.timing.stage("serialize"):
        rows = await serialize_rows(lambda: vectors, vectors.size, service.shared)
        return json_response({**_head(context), "embeddings": rows})


@router.post(
    "/compare",
    summary="Compare an image or a text with others (Roboflow)",
    responses={200: {"model": CompareAnswer}, **ERRORS},
)
async def compare(
    request: Annotated[CompareRequest, json_body(CompareRequest, QUERY_KEY)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer the cosines, in the order of the prompts or by their names."""
    items = [request.subject, *request.prompt.items]
    with service.model(request.clip_version_id) as pipeline:
        pipeline.comparison.check([request.subject], request.prompt.items)
        embedded = await pipeline.embed(items, context, truncate=None, keep_errors=False, tokens=True)
        subject, prompts = embedded.compared(slice(1)), embedded.compared(slice(1, None))
        [cosines] = await pipeline.comparison.cosines(subject, prompts, context.timing)
    names = request.prompt.names
    similarity = cosines if names is None else dict(zip(names, cosines, strict=True))
    return json_response({**_head(context), "similarity": similarity, "parent_id": None})


def _head(context: RequestContext) -> dict[str, Any]:
    return {"inference_id": context.request_id, "frame_id": None, "time": context.timing.total_s()}
