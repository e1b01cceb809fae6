"""SigLIP's loss: each pair of an image and a text is a binary question of its own (Zhai et al. 2023, algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network import Network
from model.network.siglip import INITIAL_LOGIT_BIAS, INITIAL_LOGIT_SCALE
from training.config import Objective as ObjectiveConfig
from training.data.collate import Batch
from training.objectives.objective import ALL, Features, LocalRows, MaskRows, mask_rows, row_losses, weighted_share


class Sigmoid:
    """The pairwise sigmoid loss, as an `Objective`; its bias is learned."""

    def __init__(self, config: ObjectiveConfig) -> None:
        """It has no fields of its own."""

    def initialize(self, network: Network) -> None:
        """Give the network a logit bias, and the scale to begin with, where it has no bias."""
        add_logit_bias(network)

    def loss(self, features: Features, network: Network, batch: Batch, local: LocalRows, progress: float) -> Tensor:
        """As `Objective.loss`."""
        assert network.logit_bias is not None
        scalars = network.logit_scale.exp(), network.logit_bias
        by_image = _image_losses(*features, *scalars, batch.row_masks, local.images)
        return weighted_share(by_image, batch.present.float(), local.images)

    @torch.no_grad()
    def image_losses(self, features: Features, network: Network, batch: Batch) -> Tensor:
        """As `Objective.image_losses`."""
        assert network.logit_bias is not None
        scalars = network.logit_scale.exp(), network.logit_bias
        return _image_losses(*features, *scalars, batch.row_masks, slice(None))


def add_logit_bias(network: Network) -> None:
    """Give a network the bias, and the scale, that the sigmoid loss begins with, where it has no bias."""
    if network.logit_bias is None:
        network.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS))
        with torch.no_grad():
            network.logit_scale.fill_(INITIAL_LOGIT_SCALE)


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive: Tensor,
    ignored: Tensor,
    local: LocalRows = ALL,
) -> Tensor:
    """The sum over texts and the mean over images of the binary cross-entropies.

    Arguments as of `contrastive_loss`; `logit_bias` is added to every logit.
    """
    by_image = _image_losses(image, text, logit_scale, logit_bias, mask_rows(positive, ignored), local.images)
    return weighted_share(by_image, positive.any(1).float(), local.images)


def _image_losses(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    masks: MaskRows,
    images: slice,
) -> Tensor:
    """Of each of `images`, the sum over all texts: [images]."""

    def losses(chunk: slice) -> Tensor:
        logits = logit_scale * image[chunk] @ text.T + logit_bias
        return pair_losses(logits, *masks(chunk))

    return row_losses(losses, images, (len(image), len(text)))


def pair_losses(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
    """Of every row, the sum over its texts."""
    signs = torch.where(positive, 1.0, -1.0)
    return -F.logsigmoid(signs * logits).masked_fill(ignored, 0.0).sum(dim=1)
