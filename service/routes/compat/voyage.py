"""POST /v1/multimodalembeddings: what clients of Voyage call for pictures, beside /v1/embeddings for texts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.voyage import MultimodalAnswer, MultimodalRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import (
    ENCODERS,
    check_dimensions,
    combine,
    json_response,
    reduce_dimensions,
    serialize_rows,
)

router = APIRouter(prefix="/v1", tags=["Voyage"])


@router.post(
    "/multimodalembeddings",
    summary="Embed inputs of texts and images (Voyage)",
    responses={200: {"model": MultimodalAnswer}, **compatible_errors(WITH_MESSAGE)},
)
async def multimodal_embeddings(
    request: Annotated[MultimodalRequest, json_body(MultimodalRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """One vector for each input: of several parts, the normalised mean of theirs."""
    with service.model(request.model) as pipeline:
        check_dimensions(request.output_dimension, pipeline.bundle, context, "output_dimension")
        embedded = await pipeline.embed(request.inputs.items, context, truncate=request.cut, keep_errors=False)
    with context.timing.stage("serialize"):
        vectors = combine(embedded.vectors, request.inputs.counts)
        vectors = reduce_dimensions(vectors, request.output_dimension, normalize=True)
        encode = ENCODERS[request.output_encoding or "float"]
        rows = await serialize_rows(lambda: encode(vectors), vectors.size, service.shared)
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        tokens = embedded.usage["tokens"]
        usage = {"text_tokens": tokens, "image_pixels": 0, "video_pixels": 0, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": pipeline.bundle.id, "usage": usage})
