"""POST /similarity: every query against every candidate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from model.bundle import Bundle
from service.schema.answers import SimilarityAnswer
from service.schema.requests import SimilarityRequest
from service.state import CallDep, ServiceDep
from service.web.body import BodyDep
from service.web.openapi import WORK_ERRORS, body_of
from service.web.responses import NUMBERS_INLINE, json_response, write
from service.work.embedded import Embedded
from service.work.scores import best_first, probabilities
from service.work.zero_shot import check_answer_size

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
    check_answer_size(len(request.queries), len(request.candidates), request.top_k or 1)
    items = [*request.queries, *request.candidates]
    with service.model(request.model) as pipeline:
        embedded = await pipeline.embed(items, call, truncate=request.truncate, keep_errors=False)
    with call.timing.stage("serialize"):
        large = len(request.queries) * len(request.candidates) > NUMBERS_INLINE
        answer = partial(_answer, embedded, len(request.queries), pipeline.bundle, request.top_k)
        return await service.shared.in_thread(answer) if large else answer()


def _answer(embedded: Embedded, queries: int, bundle: Bundle, top_k: int | None) -> Response:
    cosine = embedded.vectors[:queries] @ embedded.vectors[queries:].T
    probability = probabilities(cosine, bundle)
    answer: dict[str, Any] = {"model": bundle.id, "cosine": write(cosine), "probability": write(probability)}
    if top_k is not None:
        answer["ranking"] = write(_ranking(cosine, probability, top_k))
    return json_response({**answer, "usage": embedded.usage})


def _ranking(cosine: Matrix, probability: Matrix, top_k: int) -> Iterator[list[dict[str, Any]]]:
    order = best_first(cosine, top_k)
    columns = (order, np.take_along_axis(cosine, order, 1), np.take_along_axis(probability, order, 1))
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield [{"index": index, "cosine": c, "probability": p} for index, c, p in zip(*row, strict=True)]
