"""POST /v1/classify and /v1/rerank: what clients of Jina call, and those of Cohere, Infinity and Voyage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response
from orjson import Fragment

from service.classification.ranking import rank
from service.schema.compat.common import token_usage
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.jina import LabelsAnswer, LabelsRequest, RerankAnswer, RerankRequest
from service.schema.compat.voyage import VoyageRerankAnswer
from service.schema.items import ImageItem, Item, TextItem, UrlItem
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import json_response, rows_to_json, serialize_rows

router = APIRouter(prefix="/v1", tags=["Jina"])
ERRORS = compatible_errors(WITH_MESSAGE)


@router.post(
    "/classify",
    summary="Choose among labels (Jina)",
    responses={200: {"model": LabelsAnswer}, **ERRORS},
)
async def classify(
    request: Annotated[LabelsRequest, json_body(LabelsRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Score as /classify does: labels go into its default template unless templates are sent."""
    with service.model(request.model) as pipeline:
        classified = await service.zero_shot.classify(pipeline, request.input, request, context)
    with context.timing.stage("serialize"):
        data = await serialize_rows(lambda: map(_classification, classified.data), classified.numbers, service.shared)
        usage = token_usage(classified.usage)
        return json_response({"object": "list", "data": data, "model": pipeline.bundle.id, "usage": usage})


def _classification(entry: dict[str, Any]) -> dict[str, Any]:
    if "error" in entry:
        return entry
    return {
        "object": "classification",
        "index": entry["index"],
        "prediction": entry["label"],
        "score": entry["score"],
        "predictions": [{"label": each["label"], "score": each["score"]} for each in entry["predictions"]],
    }


@router.post(
    "/rerank",
    summary="Rank documents by a query (Cohere, Jina, Infinity, Voyage)",
    responses={200: {"model": RerankAnswer | VoyageRerankAnswer}, **ERRORS},
)
async def rerank(
    request: Annotated[RerankRequest, json_body(RerankRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Rank texts and images by their cosine to a text or an image."""
    with service.model(request.model) as pipeline:
        ranking = await rank(
            pipeline,
            request.query,
            request.documents,
            context,
            top_n=request.best,
            truncate=request.cut,
            raw_scores=bool(request.raw_scores),
        )
    with context.timing.stage("serialize"):
        scores = ranking.scores
        results: Sequence[Any] = [{"index": index, "relevance_score": scores[index]} for index in ranking.order]
        if request.return_documents:  # which may be as large as the request
            document = _text if request.is_voyage else _document
            repeated = [document(request.documents[index]) for index in ranking.order]
            results = await service.shared.pool.run_in_thread(_with_documents, results, repeated)
        shared = {"object": "list", "model": pipeline.bundle.id, "usage": token_usage(ranking.usage)}
        if request.is_voyage:
            return json_response({**shared, "data": results})
        return json_response({"id": context.request_id, **shared, "results": results})


def _with_documents(results: Sequence[dict[str, Any]], documents: Sequence[object]) -> list[Fragment]:
    return rows_to_json({**result, "document": document} for result, document in zip(results, documents, strict=True))


def _text(item: Item) -> str | None:
    return item.text if isinstance(item, TextItem) else None


def _document(item: Item) -> dict[str, str]:
    match item:
        case TextItem(text=text):
            return {"text": text}
        case ImageItem(data=str(data)):
            return {"image": data}
        case UrlItem(url=url):
            return {"image": url}
    raise AssertionError("bad items do not get this far")
