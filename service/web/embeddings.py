"""OpenAI's answer of embeddings, which several compatible APIs give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import Response

from service.request_context import RequestContext
from service.schema.compat.common import token_usage
from service.schema.compat.openai import EmbeddingsRequest
from service.schema.requests import EncodingFormat
from service.state import Service
from service.web.responses import (
    ENCODERS,
    Matrix,
    check_dimensions,
    combine,
    json_response,
    reduce_dimensions,
    serialize_rows,
)


async def answer_embeddings(request: EmbeddingsRequest, service: Service, context: RequestContext) -> Response:
    """Embed the request's input, or its messages; the vectors are those of /embed."""
    items, counts = request.input or [], None
    if request.messages is not None:
        items, counts = request.messages.items, request.messages.counts
    dimensions = request.dimensions or None
    with service.model(request.model) as pipeline:
        check_dimensions(dimensions, pipeline.bundle, context)
        embedded = await pipeline.embed(items, context, truncate=request.cut, keep_errors=False)
    with context.timing.stage("serialize"):
        whole = embedded.vectors if counts is None else combine(embedded.vectors, counts)
        vectors = reduce_dimensions(whole, dimensions, request.normalized is not False)
        formats = request.formats()
        rows = await serialize_rows(lambda: _encode(vectors, formats), vectors.size * len(formats), service.shared)
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = token_usage(embedded.usage)
        return json_response({"object": "list", "data": data, "model": pipeline.bundle.id, "usage": usage})


def _encode(vectors: Matrix, formats: list[EncodingFormat]) -> Iterable[Any]:
    """Row by row: in the one format, or as an object with each of several."""
    if len(formats) == 1:
        return ENCODERS[formats[0]](vectors)
    columns = [ENCODERS[name](vectors) for name in formats]
    return (dict(zip(formats, row, strict=True)) for row in zip(*columns, strict=True))
