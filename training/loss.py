"""The symmetric contrastive loss, with any number of true pairs in a row or column."""

from __future__ import annotations

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
    [texts] weighs a text by how many pictures drew it.
    """
    logits = (logit_scale * image @ text.T).masked_fill(ignored, NEVER)
    by_picture = _cross_entropy(logits, positive.float())
    by_text = _cross_entropy(logits.T, positive.T.float())
    weight = counts / counts.sum()
    return (by_picture.mean() + (by_text * weight).sum()) / 2


def _cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    target = positive / positive.sum(dim=1, keepdim=True)
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)
