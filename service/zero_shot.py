"""Zero-shot classification: items against labels, for every endpoint that offers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.zeroshot import DEFAULT_TEMPLATES, class_vectors, fill
from service.errors import ApiError
from service.items import Item, TextItem
from service.pipeline import Pipeline
from service.schemas import ClassifyOptions
from service.scores import best_first, probabilities, standing_alone
from service.settings import MAX_PREDICTIONS
from service.timing import Call

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Classified:
    """`data` as /classify answers it: for each item its predictions, or its error."""

    data: list[dict[str, Any]]
    usage: dict[str, int]


async def classify(pipeline: Pipeline, items: Sequence[Item], options: ClassifyOptions, call: Call) -> Classified:
    """Score the labels for each item."""
    labels, templates = _labels(options), _templates(options)
    _check_answer_size(len(items), len(labels), options.top_k)
    compare_without_label = options.multi_label and pipeline.bundle.logit_bias is None
    prompts = _prompts(labels, templates, compare_without_label)
    prompted = await pipeline.embed_prompts(prompts, call, truncate=options.truncate)
    embedded = await pipeline.embed(items, call, truncate=options.truncate, keep_errors=options.on_error == "item")
    with call.timing.stage("serialize"):
        classes = class_vectors(prompted.vectors.reshape(-1, len(templates), pipeline.bundle.dimensions))
        cosine = embedded.vectors @ classes.T
        scores = probabilities(cosine[:, : len(labels)], pipeline.bundle)
        if compare_without_label:
            scores = standing_alone(cosine, pipeline.bundle)
        data = _answers(scores, cosine, labels, options)
        for index, error in embedded.errors.items():
            data[index] = {"index": index, "error": error.detail()}
        usage = {name: embedded.usage[name] + prompted.usage[name] for name in embedded.usage}
        return Classified(data, usage)


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


def _prompts(labels: Sequence[str], templates: Sequence[str], without_label: bool) -> list[TextItem]:
    """Each label in each template and, if wanted, last the templates without a label."""
    filled: list[TextItem] = [
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
