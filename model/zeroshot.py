"""The arithmetic of zero-shot classification: prompt templates, class vectors, probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

DEFAULT_TEMPLATES: tuple[str, ...] = ("a photo of a {}.",)
_PLACE = "{}"

Floats = npt.NDArray[np.float32]


class TemplateError(ValueError):
    """A prompt template without exactly one place for the label."""


@cache
def template_sets() -> Mapping[str, tuple[str, ...]]:
    """The templates that ship, by the name of their set; `imagenet-7` and `imagenet-80` are those of CLIP's authors."""
    text = resources.files("model").joinpath("template_sets.json").read_text("utf-8")
    return MappingProxyType({name: tuple(templates) for name, templates in json.loads(text).items()})


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


def softmax(logits: npt.ArrayLike) -> Floats:
    """Probabilities over the last axis; no logit is too large."""
    values = np.asarray(logits, dtype=np.float32)
    powers = np.exp(values - values.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def sigmoid(logits: npt.ArrayLike) -> Floats:
    """Probability of each logit alone; no logit is too large or too small."""
    values = np.asarray(logits, dtype=np.float32)
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -values)), dtype=np.float32)
