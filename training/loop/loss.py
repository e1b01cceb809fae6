"""The losses, with any number of true pairs in a row or column: softmax, sigmoid, and a teacher's similarities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Low enough for a softmax to give nothing, finite so that 0 times its logarithm is 0.
NEVER = -1e4


def contrastive_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor, positive: Tensor, ignored: Tensor, counts: Tensor
) -> Tensor:
    """Mean of both directions' cross-entropies; the loss of the paper where `positive` is the identity.

    `image` [pictures, dim] and `text` [texts, dim] are of unit length, `logit_scale` already exponentiated.
    `positive` [pictures, texts] share a row's or column's target evenly, `ignored` pairs take no part, and `counts`
    [texts] weighs a text by how many pictures drew it. Pictures and texts without a positive weigh nothing.
    """
    logits = (logit_scale * image @ text.T).masked_fill(ignored, NEVER)
    by_picture = _cross_entropy(logits, positive.float())
    by_text = _cross_entropy(logits.T, positive.T.float())
    return (_weighted_mean(by_picture, positive.any(1)) + _weighted_mean(by_text, counts * positive.any(0))) / 2


def sigmoid_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor, positive: Tensor, ignored: Tensor
) -> Tensor:
    """Each pair is a question of its own: the sum over texts, the mean over pictures (Zhai et al. 2023, algorithm 1).

    Arguments as of `contrastive_loss`; `logit_bias` is added to every logit.
    """
    logits = logit_scale * image @ text.T + logit_bias
    signs = torch.where(positive, 1.0, -1.0)
    by_picture = -F.logsigmoid(signs * logits).masked_fill(ignored, 0.0).sum(dim=1)
    return _weighted_mean(by_picture, positive.any(1))


def affinity_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """How far similarities [pictures, texts] are from a teacher's: the mean of both directions' cross-entropies.

    Affinity mimicking of TinyCLIP (Wu et al. 2023, equation 3), without the constant of the teacher's own entropy.
    """
    by_picture = -(teacher.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    by_text = -(teacher.softmax(dim=0) * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (by_picture + by_text) / 2


def _weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def _cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Of every row; 0 for one without a positive."""
    target = positive / positive.sum(dim=1, keepdim=True).clamp(min=1)
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)
