"""Labels to class vectors, and vectors to predictions: as the service does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.bundle import Bundle
from model.zeroshot import (
    default_templates,
    judges_alone,
    label_vs_background,
    probabilities,
    softmax,
    template_sets,
    top_k_indices,
)
from sightword.errors import InvalidRequestError, InvalidTemplateError
from sightword.local.reading import check_text
from sightword.results import Classification, Prediction, Vectors, classification_of


def check_labels(labels: Sequence[str]) -> None:
    """Raise InvalidRequestError for none, an empty one, or the same one twice."""
    if not labels:
        raise InvalidRequestError("This list is empty; give at least one label.", param="labels")
    seen: set[str] = set()
    for index, label in enumerate(labels):
        check_text(label, f"labels.{index}", "label")
        same = " ".join(label.split())
        if same in seen:
            raise InvalidRequestError("This label is there twice; each must differ.", param=f"labels.{index}")
        seen.add(same)


def choose_templates(templates: Sequence[str] | None, template_set: str | None, bundle: Bundle) -> Sequence[str]:
    """Those given, those of the set, or the model's default. Raises InvalidRequestError, InvalidTemplateError."""
    chosen = _choose_templates(templates, template_set) or default_templates(bundle)
    if bundle.categories is not None and any(template.strip() != "{}" for template in chosen):
        raise InvalidTemplateError(
            'This model knows categories by name only, so that its one template is "{}".',
            param="templates" if template_set is None else "template_set",
        )
    return chosen


def _choose_templates(templates: Sequence[str] | None, template_set: str | None) -> Sequence[str] | None:
    if templates is not None and template_set is not None:
        raise InvalidRequestError("Give either templates or template_set.", param="template_set")
    if template_set is not None:
        if (found := template_sets().get(template_set)) is None:
            names = ", ".join(template_sets())
            raise InvalidRequestError(f"There is no template set of this name, only {names}.", param="template_set")
        return found
    if templates is None:
        return None
    if not templates:
        raise InvalidRequestError("This list is empty; give at least one template.", param="templates")
    for index, template in enumerate(templates):
        if template.count("{}") != 1:
            raise InvalidTemplateError(
                "A template needs exactly one {}, where the label goes.", param=f"templates.{index}"
            )
    return templates


def predictions(
    cosine: Vectors,
    labels: Sequence[str],
    bundle: Bundle,
    *,
    top_k: int | None,
    multi_label: bool,
    threshold: float | None,
) -> list[Classification]:
    """Of cosines [items, labels], or with one more column, that of no label."""
    if cosine.shape[1] > len(labels):
        scores = label_vs_background(cosine, bundle)
    else:
        alone = judges_alone(bundle, multi_label)
        scores = probabilities(cosine, bundle) if alone else softmax(bundle.logit_scale * cosine)
    order = top_k_indices(scores, top_k)
    sorted_scores, sorted_cosine = np.take_along_axis(scores, order, 1), np.take_along_axis(cosine, order, 1)
    kept = (sorted_scores >= (threshold or 0.0)).sum(axis=1).tolist()
    results = []
    for count, *columns in zip(kept, order.tolist(), sorted_scores, sorted_cosine, strict=True):
        found = [
            Prediction(labels[label], float(score), float(value))
            for label, score, value in zip(*(column[:count] for column in columns), strict=True)
        ]
        results.append(classification_of(found))
    return results
