"""RankCLIP: the order of a batch by one similarity is predicted by another (Zhang et al. 2024, arXiv 2404.09387).

Each sample of a batch, an image and the text that was drawn for it, ranks all samples four times: its image ranks their
texts and their images, its text their images and their texts. Of the two across the modalities each is to give the
order that the other one has, and so are the two within them. How likely an order is by some similarities is told by
the model of Plackett and Luce (ListMLE, Xia et al. 2008): places are filled one after another, each by a softmax over
who is left. Where the paper leaves a choice, what is done here is said in docs/objectives.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.network import Network
from training.config import Objective as ObjectiveConfig
from training.data.collate import Batch
from training.objectives.contrastive import Contrastive
from training.objectives.objective import Features, LocalRows, row_losses, weighted_share

COPIES = 4  # of similarities that sorting them keeps, beside what a softmax does


class Rank:
    """The loss of CLIP and the ranking consistency of RankCLIP, as an `Objective`."""

    def __init__(self, config: ObjectiveConfig) -> None:
        """Weights and ramps are those of the section `rank`."""
        self._contrastive, self._config = Contrastive(config), config.rank

    def initialize(self, network: Network) -> None:
        """As that of `Contrastive`."""
        self._contrastive.initialize(network)

    def loss(self, features: Features, network: Network, batch: Batch, local: LocalRows, progress: float) -> Tensor:
        """As `Objective.loss`."""
        loss = self._contrastive.loss(features, network, batch, local, progress)
        weights = self.weights(progress)
        if not any(weights):
            return loss
        by_sample = consistency_losses(*features, network.logit_scale.exp(), batch, weights, local.images)
        return loss + weighted_share(by_sample, batch.present.float(), local.images)

    @torch.no_grad()
    def image_losses(self, features: Features, network: Network, batch: Batch) -> Tensor:
        """As `Objective.image_losses`, with the weights of the end of the run."""
        ranking = consistency_losses(*features, network.logit_scale.exp(), batch, self.weights(1.0), slice(None))
        return self._contrastive.image_losses(features, network, batch) + ranking

    def weights(self, progress: float) -> tuple[float, float]:
        """Of the consistency across and within the modalities, where that share of all steps is done."""
        config = self._config
        across = config.cross_weight * _ramped(config.cross_ramp, progress)
        return across, config.in_weight * _ramped(config.in_ramp, progress)


def consistency_losses(
    image: Tensor, text: Tensor, logit_scale: Tensor, batch: Batch, weights: tuple[float, float], rows: slice
) -> Tensor:
    """What the orders of `rows` of the samples add to the loss: [rows].

    `image` [samples, dim] and `text` [texts, dim] are those of the whole `batch`, of unit length; `weights` are those
    of the consistency across the modalities and within them. Images that are missing are in no list.
    """
    drawn = batch.drawn
    listed = slice(None) if batch.missing is None else batch.present.nonzero().flatten()
    columns = image[listed].T

    def by_image(chunk: slice) -> tuple[Tensor, Tensor]:
        """How alike the images of samples are to the texts and to the images of all that are listed."""
        own = logit_scale * image[chunk]
        return (own @ text.T)[:, drawn[listed]], own @ columns

    def by_text(chunk: slice) -> tuple[Tensor, Tensor]:
        """How alike the texts of samples are to the images and to the texts of all that are listed."""
        own = logit_scale * text[drawn[chunk]]
        return own @ columns, (own @ text.T)[:, drawn[listed]]

    def losses(chunk: slice) -> Tensor:
        pairs = zip(weights, by_image(chunk), by_text(chunk), strict=True)
        parts = [weight * (list_mle(one, other) + list_mle(other, one)) for weight, one, other in pairs if weight]
        return torch.stack(parts).sum(dim=0)

    return row_losses(losses, rows, (len(image), COPIES * len(image)))


def list_mle(scores: Tensor, reference: Tensor) -> Tensor:
    """How unlikely the order that `reference` gives is by `scores`, both [rows, length], a place: [rows].

    The negative logarithm of the Plackett-Luce likelihood of each row, divided by the length. Those that stand equal in
    `reference` are each chosen from all that are left when the first of them is (Breslow 1974), so that no order among
    them is asked for. There is no gradient through the order.
    """
    order = reference.detach().sort(dim=1, descending=True, stable=True)
    ranked = scores.gather(1, order.indices)
    left = ranked.flip(1).logcumsumexp(dim=1).flip(1)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(ranked)
    equal = order.values[:, 1:] == order.values[:, :-1]
    first = places.clone()
    first[:, 1:].masked_fill_(equal, 0)
    return (left.gather(1, first.cummax(dim=1).values) - ranked).sum(dim=1) / max(1, scores.shape[1])


def _ramped(ramp: tuple[float, float], progress: float) -> float:
    """From 0 until the first of two shares of all steps to 1 from the second on."""
    first, last = ramp
    return float(progress >= first) if first == last else min(1.0, max(0.0, (progress - first) / (last - first)))
