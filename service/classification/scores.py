"""From cosines to probabilities and rankings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.zeroshot import sigmoid, softmax

Matrix = NDArray[np.float32]
SORT_ALL = 20  # sorting only the best of so many times more columns is faster


def probabilities(cosine: Matrix, bundle: Bundle) -> Matrix:
    """Softmax of logit scale times cosine over the last axis; for sigmoid models each pair stands alone."""
    if bundle.logit_bias is None:
        return softmax(bundle.logit_scale * cosine)
    return sigmoid(bundle.logit_scale * cosine + bundle.logit_bias)


def label_vs_background(cosine: Matrix, bundle: Bundle) -> Matrix:
    """Cosines [items, labels + 1], the last to the prompt without a label -> probabilities [items, labels].

    Each label against that prompt: a softmax over the two, which is the sigmoid of their difference.
    """
    return sigmoid(bundle.logit_scale * (cosine[:, :-1] - cosine[:, -1:]))


def top_k_indices(scores: Matrix, top_k: int | None) -> NDArray[np.int64]:
    """Columns of each row from the highest score down, at most `top_k`; equal scores keep their order."""
    if top_k is None or top_k * SORT_ALL > scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return np.stack([_top(row, top_k) for row in scores])


def _top(row: Matrix, top_k: int) -> NDArray[np.int64]:
    """What sorting would give, without sorting all of it."""
    [candidates] = np.nonzero(row >= np.partition(row, -top_k)[-top_k])
    return candidates[np.argsort(-row[candidates], kind="stable")[:top_k]]
