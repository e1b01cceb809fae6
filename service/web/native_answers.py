"""What /embed and /classify answer, which /invocations answers as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import Response

from service.inference.records import EmbeddingResult
from service.request_context import RequestContext
from service.schema.requests import ClassifyRequest, EmbedRequest
from service.state import Service
from service.web.responses import (
    ENCODERS,
    binary_response,
    check_dimensions,
    json_response,
    negotiate_binary_type,
    reduce_dimensions,
    serialize_rows,
)

Content = dict[str, Any]


async def answer_embed(
    request: EmbedRequest,
    service: Service,
    context: RequestContext,
    arrange: Callable[[Content], Content] | None = None,
) -> Response:
    """Embed the inputs; `arrange` makes another object of that with model, data and usage."""
    media_type = negotiate_binary_type(context.headers.get(b"accept", b"").decode("latin-1"), request)
    with service.model(request.model) as pipeline:
        check_dimensions(request.dimensions, pipeline.bundle, context)
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
        content = {"model": pipeline.bundle.id, "data": data, "usage": embedded.usage}
        return json_response(arrange(content) if arrange else content)


async def answer_classify(
    request: ClassifyRequest,
    service: Service,
    context: RequestContext,
    arrange: Callable[[Content], Content] | None = None,
) -> Response:
    """Choose among labels; `arrange` as above."""
    with service.model(request.model) as pipeline:
        classified = await service.zero_shot.classify(pipeline, request.inputs, request, context)
    data = await serialize_rows(lambda: classified.data, classified.numbers, service.shared)
    content = {"model": pipeline.bundle.id, "data": data, "usage": classified.usage}
    return json_response(arrange(content) if arrange else content)


def _entries(rows: Iterable[object], embedded: EmbeddingResult) -> Iterator[dict[str, Any]]:
    return (_entry(index, row, embedded) for index, row in enumerate(rows))


def _entry(index: int, row: object, embedded: EmbeddingResult) -> dict[str, Any]:
    if error := embedded.errors.get(index):
        return {"index": index, "error": error.detail()}
    return {"index": index, "embedding": row, "truncated": embedded.truncated[index]}
