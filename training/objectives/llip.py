"""Llip: SigLIP's loss where each image is mixed for every text of the batch, the wrong ones too (Lavoie et al. 2024).

"Modeling Caption Diversity in Contrastive Vision-Language Pretraining", arXiv 2405.00740: with the scale a, the bias b
and the cosine of image i, mixed for text j, to that text, -1/N sum over i and j of log sigmoid(y_ij (a cos_ij + b)),
where y is 1 for what is true and -1 for what is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.config import ModelConfig
from model.mixture_tiles import mixture_tiles
from model.network import CLIP, Network
from training.config import ConfigError
from training.config import Objective as ObjectiveConfig
from training.data.collate import Batch
from training.objectives.objective import ALL, Features, LocalRows, MaskRows, mask_rows, weighted_share
from training.objectives.sigmoid import add_logit_bias, pair_losses

# Numbers of a tile [images, texts, heads x tokens] and of what is made of it: 64 MiB in float32, and with what the way
# back holds of them about three times that.
MAX_NUMBERS = 2**24


class Llip:
    """The pairwise sigmoid loss of images that are mixed for each text, as an `Objective`."""

    def __init__(self, config: ObjectiveConfig) -> None:
        self._mixture = config.llip.mixture

    def initialize(self, network: Network) -> None:
        """Give the network the tokens and what mixes them where it has none, and the scalars of the sigmoid loss.

        Raises ConfigError for an image tower that cannot have them, or has others.
        """
        config = network.config
        if config.mixture is None:
            try:
                mixed = ModelConfig.model_validate({**dict(config), "mixture": self._mixture})
            except ValidationError as error:
                raise ConfigError(f"objective.llip: {config.name}: {error.errors()[0]['msg']}") from error
            assert isinstance(network, CLIP)
            network.add_mixture(mixed)
        elif config.mixture != self._mixture:
            was = ", ".join(f"{name}: {value:g}" for name, value in config.mixture.model_dump().items())
            raise ConfigError(f"objective.llip: {config.name} was trained with {{{was}}}: set it to that")
        add_logit_bias(network)

    def loss(self, features: Features, network: Network, batch: Batch, local: LocalRows, progress: float) -> Tensor:
        """As `Objective.loss`."""
        by_image = _image_losses(*features, network, batch.row_masks, local.images)
        return weighted_share(by_image, batch.present.float(), local.images)

    @torch.no_grad()
    def image_losses(self, features: Features, network: Network, batch: Batch) -> Tensor:
        """As `Objective.image_losses`."""
        return _image_losses(*features, network, batch.row_masks, slice(None))


def llip_loss(
    image: Tensor, text: Tensor, network: Network, positive: Tensor, ignored: Tensor, local: LocalRows = ALL
) -> Tensor:
    """The sum over texts and the mean over images of the binary cross-entropies.

    `image` [images, tokens, dim] and `text` [texts, dim] are of unit length; the other arguments are as of
    `sigmoid_loss`, with the scale, the bias and the mixture of `network`.
    """
    by_image = _image_losses(image, text, network, mask_rows(positive, ignored), local.images)
    return weighted_share(by_image, positive.any(1).float(), local.images)


def _image_losses(image: Tensor, text: Tensor, network: Network, masks: MaskRows, images: slice) -> Tensor:
    """Of each of `images`, the sum over all texts: [images].

    Tiles of images and texts are mixed one after the other, and again for the gradient: memory is that of a tile.
    """
    config, mixture = network.config.mixture, network.mixture
    bias, scale = network.logit_bias, network.logit_scale.exp()
    assert config is not None
    assert mixture is not None
    assert bias is not None
    own, first = image[images], images.indices(len(image))[0]
    rows, columns = mixture_tiles(config, text.shape[1], len(own), len(text), MAX_NUMBERS)
    # Split once: the gradient of a slice would be as large as all images, for every tile.
    queries, targets = (_split(each, columns, dim=1) for each in mixture.ask(text))

    def tile(part: Tensor, of: slice, texts: slice, queries: Tensor, targets: Tensor) -> Tensor:
        logits = scale * mixture.compare(part, queries, targets) + bias
        return pair_losses(logits, *(mask[:, texts] for mask in masks(of)))

    losses = []
    for row, part in zip(rows, _split(own, rows), strict=True):
        of = slice(first + row.start, first + row.stop)
        tiles = [(part, of, *given) for given in zip(columns, queries, targets, strict=True)]
        if len(rows) == len(columns) == 1:
            return tile(*tiles[0])
        parts = [checkpoint(tile, *given, use_reentrant=False, preserve_rng_state=False) for given in tiles]
        losses.append(torch.stack(parts).sum(dim=0))
    return torch.cat(losses)


def _split(x: Tensor, slices: Sequence[slice], dim: int = 0) -> Sequence[Tensor]:
    return torch.split(x, [part.stop - part.start for part in slices], dim)
