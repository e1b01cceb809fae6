"""POST /similarity: every query against every candidate."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from model.bundle import Bundle
from model.zeroshot import probabilities, top_k_indices
from service.classification.zero_shot import check_answer_size
from service.inference.records import EmbeddingResult
from service.schema.answers import SimilarityAnswer
from service.schema.requests import SimilarityRequest
from service.state import RequestContextDep, ServiceDep
from service.thread_pool import INLINE_WRITTEN_NUMBERS
from service.web.body import json_body
from service.web.openapi import WORK_ERRORS
from service.web.responses import json_response, rows_to_json

router = APIRouter(tags=["zero-shot"])
Matrix = NDArray[np.float32]


@router.post(
    "/similarity",
    summary="Compare queries with candidates",
    responses={200: {"model": SimilarityAnswer}, **WORK_ERRORS},
)
async def similarity(
    request: Annotated[SimilarityRequest, json_body(SimilarityRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Cosines, and the probability of each candidate given the query; texts and images on both sides."""
    check_answer_size(len(request.queries), len(request.candidates), request.top_k or 1)
    items = [*request.queries, *request.candidates]
    with service.model(request.model) as pipeline:
        pipeline.comparison.check(request.queries, request.candidates)
        embedded = await pipeline.embed(
            items, context, truncate=request.truncate, keep_errors=request.on_error == "item", tokens=True
        )
        count = len(request.queries)
        valid = np.array([index for index in range(count, len(items)) if index not in embedded.errors], np.int64)
        queries, candidates = embedded.compared(slice(count)), embedded.compared(valid)
        cosine = await pipeline.comparison.cosines(queries, candidates, context.timing)
    with context.timing.stage("serialize"):
        return await service.shared.pool.run_inline_or_in_thread(
            cosine.size, INLINE_WRITTEN_NUMBERS, _answer, cosine, valid - count, embedded, request, pipeline.bundle
        )


def _answer(
    cosine: Matrix, valid: NDArray[np.int64], embedded: EmbeddingResult, request: SimilarityRequest, bundle: Bundle
) -> Response:
    """Of cosines [queries, valid candidates]."""
    count, candidates = len(request.queries), len(request.candidates)
    probability = probabilities(cosine, bundle)
    matrices = {"cosine": cosine, "probability": probability}
    rows: dict[str, Iterable[Any]] = {**matrices}
    if len(valid) < candidates:
        rows = {name: _scatter(matrix, valid, candidates) for name, matrix in matrices.items()}
    if request.top_k is not None:
        rows["ranking"] = _ranking(cosine, probability, valid, request.top_k)
    invalid = {index for index in embedded.errors if index < count}
    answer: dict[str, Any] = {"model": bundle.id}
    answer |= {name: rows_to_json(_null_rows(invalid, each)) for name, each in rows.items()}
    if request.on_error == "item":
        answer["errors"] = _errors(embedded, count)
    return json_response({**answer, "usage": embedded.usage})


def _null_rows(invalid: Container[int], rows: Iterable[Any]) -> Iterable[Any]:
    """The rows, with nulls for those of invalid queries."""
    return (None if index in invalid else row for index, row in enumerate(rows)) if invalid else rows


def _scatter(matrix: Matrix, valid: NDArray[np.int64], columns: int) -> Iterator[list[float | None]]:
    """Rows [valid candidates] -> rows [candidates], with nulls for the others."""
    for row in matrix:
        scattered: list[float | None] = [None] * columns
        for column, number in zip(valid.tolist(), row, strict=True):
            scattered[column] = number
        yield scattered


def _errors(embedded: EmbeddingResult, queries: int) -> dict[str, list[dict[str, Any]]]:
    errors: dict[str, list[dict[str, Any]]] = {"queries": [], "candidates": []}
    for index, error in sorted(embedded.errors.items()):
        side, first = ("queries", 0) if index < queries else ("candidates", queries)
        errors[side].append({"index": index - first, "error": error.detail()})
    return errors


def _ranking(
    cosine: Matrix, probability: Matrix, valid: NDArray[np.int64], top_k: int
) -> Iterator[list[dict[str, Any]]]:
    order = top_k_indices(cosine, top_k)
    columns = (valid[order], np.take_along_axis(cosine, order, 1), np.take_along_axis(probability, order, 1))
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield [{"index": index, "cosine": c, "probability": p} for index, c, p in zip(*row, strict=True)]
