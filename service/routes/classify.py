"""POST /classify: zero-shot classification by labels that the request brings along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from model.zeroshot import DEFAULT_TEMPLATES, class_vectors, fill
from service.body import Body, BodyDep
from service.errors import ApiError
from service.items import Item, TextItem
from service.openapi import WORK_ERRORS, body_of
from service.responses import json_response
from service.schemas import ClassifyAnswer, ClassifyOptions, ClassifyRequest
from service.scores import best_first, probabilities, standing_alone
from service.settings import MAX_PREDICTIONS
from service.state import CallDep, ServiceDep

router = APIRouter(tags=["zero-shot"])
Matrix = NDArray[np.float32]


@router.post(
    "/classify",
    summary="Choose among labels",
    responses={200: {"model": ClassifyAnswer}, **WORK_ERRORS},
    openapi_extra=body_of(ClassifyRequest, ClassifyOptions),
)
async def classify(body: BodyDep, service: ServiceDep, call: CallDep) -> Response:
    """Send JSON, or an image file as the body with the options in the query (`labels=cat,dog`)."""
    items, options = await _read(body)
    pipeline = service.find(options.model)
    labels, templates = _labels(options), _templates(options)
    _check_answer_size(len(items), len(labels), options.top_k)
    compare_without_label = options.multi_label and pipeline.bundle.logit_bias is None
    prompts = _prompts(labels, templates, compare_without_label)
    embedded = await pipeline.embed(
        [*items, *prompts], call, truncate=options.truncate, keep_errors=options.on_error == "item"
    )
    for index in range(len(items), len(items) + len(prompts)):
        if index in embedded.errors:  # a label that cannot be embedded spoils every item's answer
            raise embedded.errors[index]
    with call.timing.stage("serialize"):
        vectors, prompt_vectors = np.split(embedded.vectors, [len(items)])
        classes = class_vectors(prompt_vectors.reshape(-1, len(templates), pipeline.bundle.dimensions))
        cosine = vectors @ classes.T
        scores = probabilities(cosine[:, : len(labels)], pipeline.bundle)
        if compare_without_label:
            scores = standing_alone(cosine, pipeline.bundle)
        data = _answers(scores, cosine, labels, options)
        for index, error in embedded.errors.items():
            data[index] = {"index": index, "error": error.detail()}
        return json_response({"model": pipeline.bundle.id, "data": data, "usage": embedded.usage})


async def _read(body: Body) -> tuple[Sequence[Item], ClassifyOptions]:
    if body.is_image:
        return await body.image(ClassifyOptions)
    request = await body.json(ClassifyRequest)
    return request.inputs, request


def _labels(options: ClassifyOptions) -> Sequence[str]:
    if options.labels is None:
        raise ApiError("label_set_not_found", "There is no label set of this name; send labels.", "label_set")
    return options.labels


def _templates(options: ClassifyOptions) -> Sequence[str]:
    if options.template_set is not None:
        raise ApiError("invalid_request", "There is no template set of this name; send templates.", "template_set")
    return options.templates or DEFAULT_TEMPLATES


def _check_answer_size(items: int, labels: int, top_k: int | None) -> None:
    predictions = items * min(labels, top_k or labels)
    if predictions > MAX_PREDICTIONS:
        message = f"The answer would hold {predictions} predictions, over {MAX_PREDICTIONS}; ask for a smaller top_k."
        raise ApiError("too_many_inputs", message, "top_k")


def _prompts(labels: Sequence[str], templates: Sequence[str], without_label: bool) -> list[Item]:
    """Each label in each template and, if wanted, last the templates without a label."""
    filled: list[Item] = [
        TextItem(fill(template, label), f"labels.{index}")
        for index, label in enumerate(labels)
        for template in templates
    ]
    if without_label:
        filled += [TextItem(fill(template, "").strip(), "templates") for template in templates]
    return filled


def _answers(scores: Matrix, cosine: Matrix, labels: Sequence[str], options: ClassifyOptions) -> list[dict[str, Any]]:
    order = best_first(scores, options.top_k)
    sorted_scores, sorted_cosine = np.take_along_axis(scores, order, 1), np.take_along_axis(cosine, order, 1)
    threshold = 0.0 if options.threshold is None else options.threshold
    answers: list[dict[str, Any]] = []
    for index, columns in enumerate(zip(order.tolist(), sorted_scores, sorted_cosine, strict=True)):
        predictions = [
            {"label": labels[label], "score": score, "cosine": c}
            for label, score, c in zip(*columns, strict=True)
            if score >= threshold
        ]
        best = predictions[0] if predictions else {"label": None, "score": None}
        answers.append({"index": index, "label": best["label"], "score": best["score"], "predictions": predictions})
    return answers
