"""Zero-shot classification: items against labels, for every endpoint that offers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.own_labels import LABEL_SET
from model.zeroshot import (
    default_templates,
    judges_alone,
    label_vs_background,
    needs_background,
    probabilities,
    softmax,
    template_sets,
    top_k_indices,
)
from service.classification.class_vectors import ClassVectorCache, ClassVectors, Prompts
from service.classification.label_sets import LabelSets
from service.errors import ApiError
from service.inference.pipeline import Pipeline
from service.inference.records import Compared
from service.request_context import RequestContext
from service.schema.items import Item, check_count, raise_first_bad
from service.schema.requests import ONE_SOURCE_OF_LABELS, ClassifyOptions, TemplateOptions
from service.settings import MAX_PREDICTIONS, Settings
from service.thread_pool import INLINE_SCORES, ThreadPool

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """`data` as /classify answers it: for each item its predictions, or its error."""

    data: list[dict[str, Any]]
    usage: dict[str, int]

    @property
    def numbers(self) -> int:
        """How many numbers the data hold, which decides where they are written as JSON."""
        return 2 * sum(len(entry.get("predictions", ())) for entry in self.data)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the items are compared with; `stored` is whether that took nothing to embed, but perhaps the first time."""

    labels: Sequence[str]
    classes: ClassVectors
    stored: bool


class ZeroShotClassifier:
    """Classifies with the pipeline of any model.

    Labels come with a request, from a stored label set, or from the model itself.
    """

    def __init__(
        self, settings: Settings, pool: ThreadPool, label_sets: LabelSets, class_vector_cache: ClassVectorCache
    ) -> None:
        self._settings, self._pool = settings, pool
        self._label_sets, self._class_vector_cache = label_sets, class_vector_cache

    async def classify(
        self, pipeline: Pipeline, items: Sequence[Item], options: ClassifyOptions, context: RequestContext
    ) -> ClassificationResult:
        """Score the labels for each item. Labels of a stored set with its own templates cost nothing."""
        if options.on_error == "fail":
            raise_first_bad(items)
        choice = await self._choice(pipeline, options, context, len(items))
        embedded = await pipeline.embed(
            items, context, truncate=options.truncate, keep_errors=options.on_error == "item", tokens=True
        )
        background = needs_background(pipeline.bundle, options.multi_label)
        rows = choice.classes.vectors if background else choice.classes.vectors[: len(choice.labels)]
        cosine = await pipeline.comparison.cosines(embedded.compared(), Compared(rows), context.timing)
        with context.timing.stage("serialize"):
            arguments = (cosine, choice.labels, options, pipeline.bundle)
            scores = len(items) * len(choice.labels)
            data = await self._pool.run_inline_or_in_thread(scores, INLINE_SCORES, _predictions, *arguments)
            for index, error in embedded.errors.items():
                data[index] = {"index": index, "error": error.detail()}
        free = dict.fromkeys(embedded.usage, 0)
        prompted = free if choice.stored else choice.classes.usage
        return ClassificationResult(data, {name: embedded.usage[name] + prompted[name] for name in embedded.usage})

    async def _choice(
        self, pipeline: Pipeline, options: ClassifyOptions, context: RequestContext, items: int
    ) -> _Choice:
        """What the items are compared with. Raises ApiError, for too large an answer before anything is embedded."""
        own, named = pipeline.own_labels, options.label_set
        if own is not None and options.labels is None and named in (None, LABEL_SET):
            check_only_names(pipeline.bundle, select_templates(options) or (), options)
            check_answer_size(items, len(own.labels), options.top_k)
            return _Choice(own.labels, ClassVectors(own.vectors, {}), stored=True)
        if options.labels is None and named is None:
            raise ApiError("invalid_request", ONE_SOURCE_OF_LABELS, "labels")
        prompts, is_stored = await self._prompts(pipeline, options)
        check_only_names(pipeline.bundle, prompts.templates, options)
        check_answer_size(items, len(prompts.labels), options.top_k)
        classes = await self._class_vectors(pipeline, prompts, is_stored, options, context)
        return _Choice(prompts.labels, classes, is_stored)

    async def _prompts(self, pipeline: Pipeline, options: ClassifyOptions) -> tuple[Prompts, bool]:
        """The prompts to compare with, and whether it is a label set just as it is stored."""
        without_label = needs_background(pipeline.bundle, options.multi_label)
        truncate = self._settings.truncate if options.truncate is None else options.truncate
        templates = select_templates(options)
        if options.labels is not None:
            prompts = Prompts(options.labels, templates or default_templates(pipeline.bundle), without_label, truncate)
        else:
            assert options.label_set is not None
            label_set = await self._label_sets.find(options.label_set, "label_set")
            if templates is None or list(templates) == label_set.templates:
                check_prompts(label_set.labels, label_set.templates, options, self._settings)
                return label_set.prompts, True
            prompts = Prompts(label_set.labels, templates, without_label, truncate or label_set.truncate)
        check_prompts(prompts.labels, prompts.templates, options, self._settings)
        return prompts, False

    async def _class_vectors(
        self,
        pipeline: Pipeline,
        prompts: Prompts,
        is_stored: bool,
        options: ClassifyOptions,
        context: RequestContext,
    ) -> ClassVectors:
        try:
            return await self._class_vector_cache.get(pipeline, prompts, context, finish=is_stored)
        except ApiError as error:
            if options.label_set is None or error.param is None:
                raise
            # The labels are not in the request; the number is that of the label in the set.
            message = f"In this label set, {error.param}: {error.message}"
            raise ApiError(error.code, message, "label_set") from None


def select_templates(options: TemplateOptions) -> Sequence[str] | None:
    """The templates that are given or named, if so. Raises `invalid_request` for an unknown set."""
    if options.template_set is None:
        return options.templates
    if (templates := template_sets().get(options.template_set)) is None:
        names = ", ".join(template_sets())
        raise ApiError("invalid_request", f"There is no template set of this name, only {names}.", "template_set")
    return templates


def check_only_names(bundle: Bundle, templates: Sequence[str], options: TemplateOptions) -> None:
    """Raise `invalid_template` for more than the name, where a model knows categories by name only."""
    if bundle.categories is None or all(template.strip() == "{}" for template in templates):
        return
    fields = ("templates", "template_set", "label_set")
    param = next((field for field in fields if getattr(options, field, None)), "templates")
    whose = "this label set has another" if param == "label_set" else "this is another"
    message = f'This model knows categories by name only, so that its one template is "{{}}", and {whose}: '
    raise ApiError("invalid_template", f'{message}send "templates": ["{{}}"].', param)


def check_prompts(
    labels: Sequence[str], templates: Sequence[str], options: TemplateOptions, settings: Settings
) -> None:
    """Raise `too_many_inputs` for more labels times templates than are allowed."""
    fields = ("templates", "template_set", "label_set")
    param = next((field for field in fields if getattr(options, field, None)), "labels")
    check_count(len(labels) * len(templates), settings.max_labels, "labels times templates", param)


def check_answer_size(items: int, labels: int, top_k: int | None) -> None:
    """Raise `too_many_inputs` for more predictions than one answer may hold."""
    predictions = items * min(labels, top_k or labels)
    if predictions > MAX_PREDICTIONS:
        message = f"The answer would hold {predictions} predictions, over {MAX_PREDICTIONS}; ask for a smaller top_k."
        raise ApiError("too_many_inputs", message, "top_k")


def _predictions(
    cosine: Matrix, labels: Sequence[str], options: ClassifyOptions, bundle: Bundle
) -> list[dict[str, Any]]:
    """Of cosines [items, labels], write for each item its labels from the best down.

    There may be one more column, that of the template without a label.
    """
    if cosine.shape[1] > len(labels):
        scores = label_vs_background(cosine, bundle)
    else:
        # Among labels one is chosen, also by a model that learned to judge pairs; `multi_label` judges each alone.
        alone = judges_alone(bundle, options.multi_label)
        scores = probabilities(cosine, bundle) if alone else softmax(bundle.logit_scale * cosine)
    order = top_k_indices(scores, options.top_k)
    sorted_scores, sorted_cosine = np.take_along_axis(scores, order, 1), np.take_along_axis(cosine, order, 1)
    threshold = 0.0 if options.threshold is None else options.threshold
    kept = (sorted_scores >= threshold).sum(axis=1).tolist()
    results: list[dict[str, Any]] = []
    for index, (count, *columns) in enumerate(zip(kept, order.tolist(), sorted_scores, sorted_cosine, strict=True)):
        predictions = [
            {"label": labels[label], "score": score, "cosine": c}
            for label, score, c in zip(*(column[:count] for column in columns), strict=True)
        ]
        best = predictions[0] if predictions else {"label": None, "score": None}
        results.append({"index": index, "label": best["label"], "score": best["score"], "predictions": predictions})
    return results
