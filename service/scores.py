"""From cosines to probabilities and rankings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.zeroshot import sigmoid, softmax

Matrix = NDArray[np.float32]


def probabilities(cosine: Matrix, bundle: Bundle) -> Matrix:
    """Softmax of logit scale times cosine over the last axis; for sigmoid models each pair stands alone."""
    if bundle.logit_bias is None:
        return softmax(bundle.logit_scale * cosine)
    return sigmoid(bundle.logit_scale * cosine + bundle.logit_bias)


def standing_alone(cosine: Matrix, bundle: Bundle) -> Matrix:
    """Cosines [items, labels + 1], the last to the prompt without a label -> probabilities [items, labels].

    Each label against that prompt: a softmax over the two, which is the sigmoid of their difference.
    """
    return sigmoid(bundle.logit_scale * (cosine[:, :-1] - cosine[:, -1:]))


def best_first(scores: Matrix, top_k: int | None) -> NDArray[np.int64]:
    """Columns of each row from the highest score down, at most `top_k`; equal scores keep their order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
