"""What /embed and /classify answer, which /invocations answers as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastapi import Response

from service.inference.records import EmbeddingResult
from service.request_context import RequestContext
from service.schema.requests import ClassifyRequest, EmbedRequest
from service.state import Service
from service.web.responses import (
    ENCODERS,
    Matrix,
    binary_response,
    check_dimensions,
    json_response,
    negotiate_binary_type,
    reduce_dimensions,
    serialize_rows,
)
from service.web.token_vectors import check_tokens, encode_groups, group_tokens, stacked_response

Content = dict[str, Any]


async def answer_embed(
    request: EmbedRequest,
    service: Service,
    context: RequestContext,
    arrange: Callable[[Content], Content] | None = None,
) -> Response:
    """Embed the inputs; `arrange` makes another object of that with model, data and usage."""
    media_type = negotiate_binary_type(context.headers.get(b"accept", b"").decode("latin-1"), request)
    several = request.output == "tokens"
    with service.model(request.model) as pipeline:
        check_dimensions(request.dimensions, pipeline.bundle, context)
        if several:
            check_tokens(request, pipeline.bundle, media_type)
        embedded = await pipeline.embed(
            request.inputs,
            context,
            truncate=request.truncate,
            keep_errors=request.on_error == "item",
            tokens=several,
        )
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(embedded.vectors, request.dimensions, request.normalize)
        groups = group_tokens(vectors, embedded.tokens) if several else None
        if media_type is not None:
            if groups is None:
                return binary_response(vectors, media_type)
            return await service.shared.pool.run_in_thread(stacked_response, groups, media_type)
        numbers = vectors.size if groups is None else sum(group.size for group in groups)
        data = await serialize_rows(
            lambda: _entries(_encode(vectors, groups, request.encoding_format), embedded), numbers, service.shared
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


def _encode(vectors: Matrix, groups: Sequence[Matrix] | None, encoding_format: str) -> Iterable[object]:
    return ENCODERS[encoding_format](vectors) if groups is None else encode_groups(groups, encoding_format)


def _entries(rows: Iterable[object], embedded: EmbeddingResult) -> Iterator[dict[str, Any]]:
    return (_entry(index, row, embedded) for index, row in enumerate(rows))


def _entry(index: int, row: object, embedded: EmbeddingResult) -> dict[str, Any]:
    if error := embedded.errors.get(index):
        return {"index": index, "error": error.detail()}
    return {"index": index, "embedding": row, "truncated": embedded.truncated[index]}
