"""CLIP's loss, with any number of true pairs in a row or column: softmax over the batch in both directions."""

from __future__ import annotations

import torch
from torch import Tensor

from model.network import Network
from training.config import ConfigError
from training.config import Objective as ObjectiveConfig
from training.data.collate import Batch
from training.objectives.objective import (
    ALL,
    Features,
    LocalRows,
    MaskRows,
    cross_entropy,
    mask_rows,
    row_losses,
    weighted_share,
)

# Low enough for a softmax to give nothing, finite so that 0 times its logarithm is 0.
MASKED = -1e4


class Contrastive:
    """The symmetric cross-entropy of Radford et al. 2021, as an `Objective`."""

    def __init__(self, config: ObjectiveConfig) -> None:
        """It has no fields of its own."""

    def initialize(self, network: Network) -> None:
        """Raise ConfigError for a network that was trained pair by pair."""
        if network.logit_bias is not None:
            raise ConfigError("a network with a logit bias was trained pair by pair: set objective.kind to sigmoid")

    def loss(self, features: Features, network: Network, batch: Batch, local: LocalRows, progress: float) -> Tensor:
        """As `Objective.loss`."""
        masks, weights = (batch.row_masks, batch.column_masks), (batch.present.float(), batch.counts)
        return _loss(*features, network.logit_scale.exp(), masks, weights, local)

    @torch.no_grad()
    def image_losses(self, features: Features, network: Network, batch: Batch) -> Tensor:
        """As `Objective.image_losses`."""
        return _masked_losses(*features, network.logit_scale.exp(), batch.row_masks, slice(None))


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    positive: Tensor,
    ignored: Tensor,
    counts: Tensor,
    local: LocalRows = ALL,
) -> Tensor:
    """Mean of both directions' cross-entropies; the loss of the paper where `positive` is the identity.

    `image` [images, dim] and `text` [texts, dim] are of unit length, `logit_scale` already exponentiated.
    `positive` [images, texts] share a row's or column's target evenly, `ignored` pairs take no part, and `counts`
    [texts] weighs a text by how many images drew it. Images and texts without a positive weigh nothing.
    """
    masks = mask_rows(positive, ignored), mask_rows(positive.T, ignored.T)
    weights = positive.any(1).float(), counts * positive.any(0)
    return _loss(image, text, logit_scale, masks, weights, local)


def _loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    masks: tuple[MaskRows, MaskRows],
    weights: tuple[Tensor, Tensor],
    local: LocalRows,
) -> Tensor:
    """`contrastive_loss` by the masks of images and of texts, and what each of these weighs."""
    by_image = _masked_losses(image, text, logit_scale, masks[0], local.images)
    by_text = _masked_losses(text, image, logit_scale, masks[1], local.texts)
    return (weighted_share(by_image, weights[0], local.images) + weighted_share(by_text, weights[1], local.texts)) / 2


def _masked_losses(own: Tensor, others: Tensor, logit_scale: Tensor, masks: MaskRows, rows: slice) -> Tensor:
    """The cross-entropies of `rows` of `own` [all, dim] over all `others`, of which `masks` are: [rows]."""

    def losses(chunk: slice) -> Tensor:
        return _masked_cross_entropy(logit_scale * own[chunk] @ others.T, *masks(chunk))

    return row_losses(losses, rows, (len(own), len(others)))


def _masked_cross_entropy(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
    """Of every row; 0 for one without a positive."""
    targets = positive.float() / positive.sum(dim=1, keepdim=True).clamp(min=1)
    return cross_entropy(logits.masked_fill(ignored, MASKED), targets)
