"""POST /v1/classify and /v1/rerank: what clients of Jina call, and those of Cohere and Infinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response
from orjson import Fragment

from model.bundle import Bundle
from model.zeroshot import probabilities, top_k_indices
from service.schema.compat import LabelsAnswer, LabelsRequest, RerankAnswer, RerankRequest, token_usage
from service.schema.items import ImageItem, Item, TextItem, UrlItem
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import COMPATIBLE_ERRORS
from service.web.responses import Matrix, json_response, rows_to_json, serialize_rows

router = APIRouter(prefix="/v1", tags=["existing clients"])


@router.post(
    "/classify",
    summary="Choose among labels (Jina)",
    responses={200: {"model": LabelsAnswer}, **COMPATIBLE_ERRORS},
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
    summary="Rank documents by a query (Cohere, Jina, Infinity)",
    responses={200: {"model": RerankAnswer}, **COMPATIBLE_ERRORS},
)
async def rerank(
    request: Annotated[RerankRequest, json_body(RerankRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Rank texts and images by their cosine to a text or an image."""
    items = [request.query, *request.documents]
    with service.model(request.model) as pipeline:
        embedded = await pipeline.embed(items, context, truncate=request.truncate, keep_errors=False)
    with context.timing.stage("serialize"):
        cosine = embedded.vectors[1:] @ embedded.vectors[0]
        scores = cosine if request.raw_scores else relevance(cosine, pipeline.bundle)
        order = top_k_indices(cosine[np.newaxis], request.top_n)[0].tolist()
        results: Sequence[object] = [{"index": index, "relevance_score": scores[index]} for index in order]
        if request.return_documents:  # which may be as large as the request
            results = await service.shared.pool.run_in_thread(_with_documents, order, scores, request.documents)
        usage = token_usage(embedded.usage)
        answer = {"id": context.request_id, "object": "list", "results": results}
        return json_response({**answer, "model": pipeline.bundle.id, "usage": usage})


def _with_documents(order: Sequence[int], scores: Matrix, documents: Sequence[Item]) -> list[Fragment]:
    return rows_to_json(
        {"index": index, "relevance_score": scores[index], "document": _document(documents[index])} for index in order
    )


def relevance(cosine: Matrix, bundle: Bundle) -> Matrix:
    """0 to 1, for each document alone: clients compare scores with a threshold, and across requests.

    A softmax would depend on the other documents, and a cosine can be negative.
    """
    if bundle.logit_bias is not None:
        return probabilities(cosine, bundle)
    scaled: Matrix = np.clip((1 + cosine) / 2, 0, 1)  # rounding can put a cosine outside -1 to 1
    return scaled


def _document(item: Item) -> dict[str, str]:
    match item:
        case TextItem(text=text):
            return {"text": text}
        case ImageItem(data=str(data)):
            return {"image": data}
        case UrlItem(url=url):
            return {"image": url}
    raise AssertionError("bad items do not get this far")
