"""Infinity at the root: POST /embeddings and /rerank; on the same path llama.cpp's `content`, and GET /props."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Response
from orjson import Fragment

from service.classification.ranking import Ranking, rank
from service.errors import error_responses
from service.request_context import RequestContext
from service.schema.compat.common import token_usage
from service.schema.compat.contents import Contents
from service.schema.compat.errors import WITH_LOCATIONS
from service.schema.compat.infinity import (
    MARKER,
    PromptEmbedding,
    PropsAnswer,
    RootEmbeddingsRequest,
    RootRerankRequest,
    StringRerankAnswer,
)
from service.schema.compat.openai import EmbeddingsAnswer
from service.schema.compat.tei import TeiRank, to_ranks
from service.schema.items import Item, TextItem
from service.state import RequestContextDep, Service, ServiceDep
from service.web.body import json_body
from service.web.embeddings import answer_embeddings
from service.web.openapi import compatible_errors
from service.web.responses import combine, json_response, rows_to_json, serialize_rows

router = APIRouter(tags=["Infinity"])
ERRORS = compatible_errors(WITH_LOCATIONS)


@router.post(
    "/embeddings",
    summary="Embed texts and images (Infinity, llama.cpp)",
    responses={200: {"model": EmbeddingsAnswer | list[PromptEmbedding]}, **ERRORS},
)
async def embeddings(
    request: Annotated[RootEmbeddingsRequest, json_body(RootEmbeddingsRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """As /v1/embeddings; with `content`, the list that llama.cpp answers."""
    if request.content is not None:
        return await _prompts(request, request.content, service, context)
    return await answer_embeddings(request, service, context)


async def _prompts(
    request: RootEmbeddingsRequest, content: Contents, service: Service, context: RequestContext
) -> Response:
    with service.model(request.model) as pipeline:
        embedded = await pipeline.embed(content.items, context, truncate=request.cut, keep_errors=False)
    with context.timing.stage("serialize"):
        vectors = combine(embedded.vectors, content.counts)
        rows = await serialize_rows(lambda: vectors, vectors.size, service.shared)
        return json_response([{"index": index, "embedding": row} for index, row in enumerate(rows)])


@router.get("/props", summary="How pictures are sent (llama.cpp)", responses=error_responses(shape=WITH_LOCATIONS))
async def props(service: ServiceDep) -> PropsAnswer:
    """Name the marker that stands for a picture in a prompt."""
    bundle = service.models.find(None).bundle
    return PropsAnswer(
        media_marker=MARKER,
        modalities={"vision": bundle.mixture is None, "audio": False},  # of a picture it has to be one vector
        model_path=bundle.id,
        default_generation_settings={},
    )


@router.post(
    "/rerank",
    summary="Rank documents by a query (Infinity, TEI)",
    responses={200: {"model": StringRerankAnswer | list[TeiRank]}, **ERRORS},
)
async def rerank(
    request: Annotated[RootRerankRequest, json_body(RootRerankRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """As /v1/rerank, but that a document is repeated as a string; with `texts`, the list that TEI answers."""
    documents = request.texts or request.documents or []
    with service.model(request.model) as pipeline:
        ranking = await rank(
            pipeline,
            request.query,
            documents,
            context,
            top_n=request.best,
            truncate=request.cut,
            raw_scores=bool(request.raw_scores),
        )
    if request.texts is not None:
        ranks = to_ranks(ranking.order, ranking.scores, documents if request.return_text else None)
        return json_response(await service.shared.pool.run_in_thread(rows_to_json, ranks))
    repeated = documents if request.return_documents else None
    results = await service.shared.pool.run_in_thread(_results, ranking, repeated)
    answer = {"id": context.request_id, "object": "rerank", "results": results, "model": pipeline.bundle.id}
    return json_response({**answer, "usage": token_usage(ranking.usage), "created": int(time.time())})


def _results(ranking: Ranking, documents: list[Item] | None) -> list[Fragment]:
    def result(index: int) -> dict[str, Any]:
        document = documents[index] if documents is not None else None
        text = document.text if isinstance(document, TextItem) else None
        return {"index": index, "relevance_score": ranking.scores[index], "document": text}

    return rows_to_json(map(result, ranking.order))
