"""POST /v1/embed, /v2/embed and /v2/rerank: what clients of Cohere call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Response

from service.classification.ranking import rank
from service.inference.records import EmbeddingResult
from service.request_context import RequestContext
from service.schema.compat.cohere import (
    CohereEmbedAnswer,
    CohereEmbedRequest,
    CohereFloatsAnswer,
    CohereRerankAnswer,
    CohereRerankRequest,
)
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.items import Item, TextItem
from service.state import RequestContextDep, Service, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import (
    ENCODERS,
    Matrix,
    check_dimensions,
    combine,
    json_response,
    reduce_dimensions,
    rows_to_json,
)

router = APIRouter(tags=["Cohere"])
ERRORS = compatible_errors(WITH_MESSAGE)


@router.post(
    "/v1/embed",
    summary="Embed texts or images (Cohere, version 1)",
    responses={200: {"model": CohereFloatsAnswer | CohereEmbedAnswer}, **ERRORS},
)
async def embed_v1(
    request: Annotated[CohereEmbedRequest, json_body(CohereEmbedRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer a plain list of vectors unless types are asked for."""
    return await _embed(request, service, context, version="1")


@router.post(
    "/v2/embed",
    summary="Embed texts, images, or inputs of both (Cohere)",
    responses={200: {"model": CohereEmbedAnswer}, **ERRORS},
)
async def embed_v2(
    request: Annotated[CohereEmbedRequest, json_body(CohereEmbedRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer the vectors by type."""
    return await _embed(request, service, context, version="2")


async def _embed(request: CohereEmbedRequest, service: Service, context: RequestContext, version: str) -> Response:
    items, counts = _parts(request)
    with service.model(request.model) as pipeline:
        check_dimensions(request.output_dimension, pipeline.bundle, context, "output_dimension")
        embedded = await pipeline.embed(items, context, truncate=request.cut, keep_errors=False)
    types = request.embedding_types or ["float"]
    plain = version == "1" and request.embedding_types is None
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(combine(embedded.vectors, counts), request.output_dimension, normalize=True)
        encoded = await service.shared.pool.run_in_thread(_encode, vectors, types)
        answer = {
            "response_type": "embeddings_floats" if plain else "embeddings_by_type",
            "id": context.request_id,
            "embeddings": encoded["float"] if plain else encoded,
            "texts": [item.text for item in items if isinstance(item, TextItem)],
            "meta": _meta(version, _billed(embedded), _warnings(request)),
        }
        return json_response(answer)


def _parts(request: CohereEmbedRequest) -> tuple[list[Item], list[int]]:
    """What is embedded, and how many of these are one input."""
    if request.inputs is not None:
        return request.inputs.items, request.inputs.counts
    items = request.texts or request.images
    return items, [1] * len(items)


def _encode(vectors: Matrix, types: Iterable[str]) -> dict[str, list[Any]]:
    return {name: list(rows_to_json(ENCODERS[name](vectors))) for name in types}


def _billed(embedded: EmbeddingResult) -> dict[str, int]:
    tokens, images = embedded.usage["tokens"], embedded.usage["images"]
    return {**({"input_tokens": tokens} if tokens else {}), **({"images": images} if images else {})}


def _warnings(request: CohereEmbedRequest) -> list[str]:
    combined = request.inputs.combined() if request.inputs is not None else ()
    return [
        f"inputs.{index}: its parts were embedded one by one, and its vector is their normalised mean"
        for index in combined
    ]


def _meta(version: str, billed: Mapping[str, int], warnings: list[str]) -> dict[str, Any]:
    meta: dict[str, Any] = {"api_version": {"version": version}, "billed_units": billed}
    return {**meta, "warnings": warnings} if warnings else meta


@router.post(
    "/v2/rerank", summary="Rank documents by a query (Cohere)", responses={200: {"model": CohereRerankAnswer}, **ERRORS}
)
async def rerank(
    request: Annotated[CohereRerankRequest, json_body(CohereRerankRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Score as /v1/rerank does."""
    with service.model(request.model) as pipeline:
        ranking = await rank(
            pipeline, request.query, request.documents, context, top_n=request.top_n, truncate=request.cut
        )
    results = [{"index": index, "relevance_score": ranking.scores[index]} for index in ranking.order]
    meta = _meta("2", {"search_units": 1}, [])
    return json_response({"id": context.request_id, "results": results, "meta": meta})
