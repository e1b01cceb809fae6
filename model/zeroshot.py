"""The arithmetic of zero-shot classification: prompt templates, class vectors, probabilities, rankings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from model.bundle import Bundle

DEFAULT_TEMPLATES: tuple[str, ...] = ("a photo of a {}.",)
_PLACE = "{}"

SORT_ALL = 20  # sorting only the best of so many times more columns is faster

Floats = npt.NDArray[np.float32]
EmbedTexts = Callable[[Sequence[str]], Floats]  # -> [texts, dimensions], of unit length


class TemplateError(ValueError):
    """A prompt template without exactly one place for the label."""


@cache
def template_sets() -> Mapping[str, tuple[str, ...]]:
    """The templates that ship, by the name of their set; `imagenet-7` and `imagenet-80` are those of CLIP's authors."""
    text = resources.files("model").joinpath("template_sets.json").read_text("utf-8")
    return MappingProxyType({name: tuple(templates) for name, templates in json.loads(text).items()})


def default_templates(bundle: Bundle) -> tuple[str, ...]:
    """What labels are put into where nothing is said: of a model that knows names of categories only, nothing is."""
    return DEFAULT_TEMPLATES if bundle.categories is None else (_PLACE,)


def judges_alone(bundle: Bundle, multi_label: bool) -> bool:
    """Whether each label is judged alone: where that is asked for, and by models that tell all that is in a picture."""
    return multi_label or bundle.categories is not None


def needs_background(bundle: Bundle, multi_label: bool) -> bool:
    """Whether a label is judged alone against the prompt without one: of models without a bias for it."""
    return multi_label and bundle.logit_bias is None and bundle.categories is None


def fill(template: str, label: str) -> str:
    """Put the label in the place of `{}`: literally, nothing else in the template is interpreted."""
    places = template.count(_PLACE)
    if places != 1:
        raise TemplateError(f"the template holds {places} times {{}}: write it exactly once, where the label goes")
    return template.replace(_PLACE, label)


def class_vectors(template_vectors: npt.ArrayLike) -> Floats:
    """Average normalised vectors [labels, templates, dim] over the templates and normalise again: [labels, dim]."""
    means = np.asarray(template_vectors, dtype=np.float32).mean(axis=1)
    lengths = np.linalg.norm(means, axis=-1, keepdims=True)
    # Templates whose vectors cancel out leave no direction: such a label has a cosine of 0 to everything.
    normalised: Floats = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
    return normalised


def template_vectors(embed: EmbedTexts, names: Sequence[Sequence[str]], templates: Sequence[str]) -> Floats:
    """[templates, classes, dimensions], of unit length; several names of a class are averaged."""
    texts = [fill(template, name) for template in templates for several in names for name in several]
    vectors = embed(texts)
    out, at = np.empty((len(templates), len(names), vectors.shape[1]), np.float32), 0
    for row in out:
        for number, several in enumerate(names):
            row[number] = class_vectors(vectors[None, at : at + len(several)])[0]
            at += len(several)
    return out


def label_vectors(embed: EmbedTexts, labels: Sequence[str], templates: Sequence[str]) -> Floats:
    """One vector a label [labels, dimensions]: the normalised mean of its templates' normalised vectors."""
    vectors = template_vectors(embed, [[label] for label in labels], templates)
    return class_vectors(vectors.transpose(1, 0, 2))


def softmax(logits: npt.ArrayLike) -> Floats:
    """Probabilities over the last axis; no logit is too large."""
    values = np.asarray(logits, dtype=np.float32)
    powers = np.exp(values - values.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def sigmoid(logits: npt.ArrayLike) -> Floats:
    """Probability of each logit alone; no logit is too large or too small."""
    values = np.asarray(logits, dtype=np.float32)
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -values)), dtype=np.float32)


def probabilities(cosine: Floats, bundle: Bundle) -> Floats:
    """Softmax of logit scale times cosine over the last axis; for sigmoid models each pair stands alone."""
    if bundle.logit_bias is None:
        return softmax(bundle.logit_scale * cosine)
    return sigmoid(bundle.logit_scale * cosine + bundle.logit_bias)


def label_vs_background(cosine: Floats, bundle: Bundle) -> Floats:
    """Cosines [items, labels + 1], the last to the prompt without a label -> probabilities [items, labels].

    Each label against that prompt: a softmax over the two, which is the sigmoid of their difference.
    """
    return sigmoid(bundle.logit_scale * (cosine[:, :-1] - cosine[:, -1:]))


def top_k_indices(scores: Floats, top_k: int | None) -> npt.NDArray[np.int64]:
    """Columns of each row from the highest score down, at most `top_k`; equal scores keep their order."""
    if top_k is None or top_k * SORT_ALL > scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return np.stack([_top_k(row, top_k) for row in scores])


def _top_k(row: Floats, top_k: int) -> npt.NDArray[np.int64]:
    """Indices of the `top_k` highest scores of one row, without sorting all of it."""
    [candidates] = np.nonzero(row >= np.partition(row, -top_k)[-top_k])
    return candidates[np.argsort(-row[candidates], kind="stable")[:top_k]]
