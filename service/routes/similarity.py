"""POST /similarity: every query against every candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from service.schema.answers import SimilarityAnswer
from service.schema.requests import SimilarityRequest
from service.state import CallDep, ServiceDep
from service.web.body import BodyDep
from service.web.openapi import WORK_ERRORS, body_of
from service.web.responses import json_response
from service.work.scores import best_first, probabilities

router = APIRouter(tags=["zero-shot"])
Matrix = NDArray[np.float32]


@router.post(
    "/similarity",
    summary="Compare queries with candidates",
    responses={200: {"model": SimilarityAnswer}, **WORK_ERRORS},
    openapi_extra=body_of(SimilarityRequest),
)
async def similarity(body: BodyDep, service: ServiceDep, call: CallDep) -> Response:
    """Cosines, and the probability of each candidate given the query; texts and images on both sides."""
    request = await body.json(SimilarityRequest)
    items = [*request.queries, *request.candidates]
    with service.model(request.model) as pipeline:
        embedded = await pipeline.embed(items, call, truncate=request.truncate, keep_errors=False)
    with call.timing.stage("serialize"):
        queries, candidates = np.split(embedded.vectors, [len(request.queries)])
        cosine = queries @ candidates.T
        probability = probabilities(cosine, pipeline.bundle)
        answer: dict[str, Any] = {"model": pipeline.bundle.id, "cosine": cosine, "probability": probability}
        if request.top_k is not None:
            answer["ranking"] = _ranking(cosine, probability, request.top_k)
        return json_response({**answer, "usage": embedded.usage})


def _ranking(cosine: Matrix, probability: Matrix, top_k: int) -> list[list[dict[str, Any]]]:
    order = best_first(cosine, top_k)
    columns = (order, np.take_along_axis(cosine, order, 1), np.take_along_axis(probability, order, 1))
    return [
        [{"index": index, "cosine": c, "probability": p} for index, c, p in zip(*row, strict=True)]
        for row in zip(*columns, strict=True)
    ]
