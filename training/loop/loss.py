"""The losses, with any number of true pairs in a row or column: softmax, sigmoid, and a teacher's similarities.

Each takes all pictures and texts of a batch. `Rows` says which of them one process answers for: it computes their
similarities to all others, and the shares of all processes add up to the loss of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Low enough for a softmax to give nothing, finite so that 0 times its logarithm is 0.
NEVER = -1e4


@dataclass(frozen=True)
class Rows:
    """Pictures and texts of a batch, by their places in it."""

    pictures: slice
    texts: slice


ALL = Rows(slice(None), slice(None))


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    positive: Tensor,
    ignored: Tensor,
    counts: Tensor,
    rows: Rows = ALL,
) -> Tensor:
    """Mean of both directions' cross-entropies; the loss of the paper where `positive` is the identity.

    `image` [pictures, dim] and `text` [texts, dim] are of unit length, `logit_scale` already exponentiated.
    `positive` [pictures, texts] share a row's or column's target evenly, `ignored` pairs take no part, and `counts`
    [texts] weighs a text by how many pictures drew it. Pictures and texts without a positive weigh nothing.
    """
    pictures, texts = rows.pictures, rows.texts
    by_picture = _cross_entropy(logit_scale * image[pictures] @ text.T, positive[pictures], ignored[pictures])
    by_text = _cross_entropy(logit_scale * text[texts] @ image.T, positive.T[texts], ignored.T[texts])
    said, seen = positive.any(1).float(), counts * positive.any(0)
    return (_share(by_picture, said, pictures) + _share(by_text, seen, texts)) / 2


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive: Tensor,
    ignored: Tensor,
    rows: Rows = ALL,
) -> Tensor:
    """Each pair is a question of its own: the sum over texts, the mean over pictures (Zhai et al. 2023, algorithm 1).

    Arguments as of `contrastive_loss`; `logit_bias` is added to every logit.
    """
    pictures = rows.pictures
    logits = logit_scale * image[pictures] @ text.T + logit_bias
    signs = torch.where(positive[pictures], 1.0, -1.0)
    by_picture = -F.logsigmoid(signs * logits).masked_fill(ignored[pictures], 0.0).sum(dim=1)
    return _share(by_picture, positive.any(1).float(), pictures)


@torch.no_grad()
def picture_losses(
    image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, positive: Tensor, ignored: Tensor
) -> Tensor:
    """What each picture [pictures] adds to the loss, before the mean: to tell which of them stand out."""
    logits = logit_scale * image @ text.T
    if logit_bias is None:
        return _cross_entropy(logits, positive, ignored)
    signs = torch.where(positive, 1.0, -1.0)
    return -F.logsigmoid(signs * (logits + logit_bias)).masked_fill(ignored, 0.0).sum(dim=1)


def affinity_loss(
    student: tuple[Tensor, Tensor],
    logit_scale: Tensor,
    teacher: tuple[Tensor, Tensor],
    teacher_scale: float,
    rows: Rows = ALL,
) -> Tensor:
    """How far similarities are from a teacher's: the mean of both directions' cross-entropies.

    Both are given as image [pictures, dim] and text [texts, dim] of unit length; their dimensions may differ.
    Affinity mimicking of TinyCLIP (Wu et al. 2023, equation 3), without the constant of the teacher's own entropy.
    """
    (image, text), (their_image, their_text) = student, teacher
    pictures, texts = rows.pictures, rows.texts
    by_picture = _affinity(logit_scale * image[pictures] @ text.T, teacher_scale * their_image[pictures] @ their_text.T)
    by_text = _affinity(logit_scale * text[texts] @ image.T, teacher_scale * their_text[texts] @ their_image.T)
    return (by_picture.sum() / len(image) + by_text.sum() / len(text)) / 2


def _share(losses: Tensor, weights: Tensor, rows: slice) -> Tensor:
    """What the losses of `rows` add to the mean over all, weighted by `weights` [all]."""
    return (losses * weights[rows]).sum() / weights.sum().clamp(min=1)


def _cross_entropy(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
    """Of every row; 0 for one without a positive."""
    target = positive.float() / positive.sum(dim=1, keepdim=True).clamp(min=1)
    return -(target * F.log_softmax(logits.masked_fill(ignored, NEVER), dim=1)).sum(dim=1)


def _affinity(logits: Tensor, teacher: Tensor) -> Tensor:
    return -(teacher.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
