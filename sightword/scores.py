"""From vectors to scores: the arithmetic of the service, in the same float32 steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sightword.results import Ranked, Similarity, Vectors


class Logits(Protocol):
    """What of a model makes cosines to logits."""

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by."""

    @property
    def logit_bias(self) -> float | None:
        """What is added then, by models of the sigmoid loss."""


def cosines_of(queries: Vectors, candidates: Vectors) -> Vectors:
    """[queries, dim], [candidates, dim] -> [queries, candidates]."""
    cosine: Vectors = queries @ candidates.T
    return cosine


def similarity_of(cosine: Vectors, model: Logits) -> Similarity:
    """Of cosines [queries, candidates]."""
    if model.logit_bias is None:
        return Similarity(cosine, _softmax(model.logit_scale * cosine))
    return Similarity(cosine, _sigmoid(model.logit_scale * cosine + model.logit_bias))


def ranking_of(cosine: Vectors, model: Logits, top_n: int | None) -> list[Ranked]:
    """Of cosines [candidates] the best, best first; equal ones keep their order.

    The score is the `relevance_score` of the service: (1 + cosine) / 2, or the sigmoid of a model that has one.
    """
    if model.logit_bias is None:
        scores: Vectors = np.clip((1 + cosine) / 2, 0, 1)  # rounding can put a cosine outside -1 to 1
    else:
        scores = _sigmoid(model.logit_scale * cosine + model.logit_bias)
    order = np.argsort(-cosine, kind="stable")[:top_n]
    return [Ranked(int(index), float(scores[index]), float(cosine[index])) for index in order]


def _softmax(logits: Vectors) -> Vectors:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _sigmoid(logits: Vectors) -> Vectors:
    return np.asarray(np.exp(-np.logaddexp(np.float32(0), -logits)), np.float32)
