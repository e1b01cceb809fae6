"""Text Embeddings Inference under /tei, since our own /embed has its path and its request, and another answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from model import __version__
from model.runtime.processor import usable_cores
from service.classification.ranking import rank
from service.errors import error_responses
from service.schema.compat.errors import FLAT
from service.schema.compat.tei import TeiEmbedRequest, TeiInfoAnswer, TeiRank, TeiRerankRequest, to_ranks
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import check_dimensions, json_response, reduce_dimensions, rows_to_json, serialize_rows

router = APIRouter(prefix="/tei", tags=["Text Embeddings Inference"])
ERRORS = compatible_errors(FLAT)


@router.post("", summary="Embed texts and images (TEI)", responses={200: {"model": list[list[float]]}, **ERRORS})
@router.post("/", include_in_schema=False)
@router.post("/embed", summary="Embed texts and images (TEI)", responses={200: {"model": list[list[float]]}, **ERRORS})
async def embed(
    request: Annotated[TeiEmbedRequest, json_body(TeiEmbedRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Answer the bare rows; what begins with data:image/ is a picture."""
    with service.model(None) as pipeline:
        check_dimensions(request.dimensions, pipeline.bundle, context)
        embedded = await pipeline.embed(request.inputs, context, truncate=request.truncate, keep_errors=False)
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(embedded.vectors, request.dimensions, request.normalize is not False)
        return json_response(await serialize_rows(lambda: vectors, vectors.size, service.shared))


@router.post("/rerank", summary="TeiRank texts by a query (TEI)", responses={200: {"model": list[TeiRank]}, **ERRORS})
async def rerank(
    request: Annotated[TeiRerankRequest, json_body(TeiRerankRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Answer the ranks, best first; scores are those of /v1/rerank."""
    with service.model(None) as pipeline:
        ranking = await rank(
            pipeline,
            request.query,
            request.texts,
            context,
            truncate=request.truncate,
            raw_scores=bool(request.raw_scores),
        )
    ranks = to_ranks(ranking.order, ranking.scores, request.texts if request.return_text else None)
    return json_response(await service.shared.pool.run_in_thread(rows_to_json, ranks))


@router.get("/info", summary="The model and the limits (TEI)", responses=error_responses("unavailable", shape=FLAT))
async def info(service: ServiceDep) -> TeiInfoAnswer:
    """Tell of the first model served."""
    pipeline, settings = service.models.find(None), service.settings
    bundle, max_batch = pipeline.bundle, pipeline.max_batch["text"]
    return TeiInfoAnswer(
        model_id=bundle.id,
        model_sha=bundle.digest,
        model_dtype=bundle.precision,
        served_model_name=bundle.id,
        model_type={"embedding": {"pooling": "cls"}},
        max_concurrent_requests=settings.queue_items,
        max_input_length=bundle.context_length,
        max_batch_tokens=max_batch * bundle.context_length,
        max_batch_requests=max_batch,
        max_client_batch_size=settings.compatible_items(),
        auto_truncate=settings.truncate,
        tokenization_workers=usable_cores(),
        version=__version__,
    )
