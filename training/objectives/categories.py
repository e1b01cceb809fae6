"""CatLIP's loss: each category of the vocabulary is a binary question of its own (Mehta et al. 2024, section 3.1)."""

from __future__ import annotations

from model.network import Network
from training.config import ConfigError
from training.objectives.sigmoid import Sigmoid


class CategoryLoss(Sigmoid):
    """Binary cross-entropy of an image's categories, summed over all of them and meaned over images, as an `Objective`.

    The paper's logits are a linear layer with a bias for each class. Here they are cosines with the rows of a table,
    under one learned scale and one bias: SigLIP's loss over [images, all categories], which a bundle serves exactly.
    The features of its texts are those of all categories, in their order.
    """

    def initialize(self, network: Network) -> None:
        """Raise ConfigError for a network that has no table of categories; scale and bias are there with the table."""
        if network.config.text.kind != "categories":
            raise ConfigError(
                "objective: categories trains a table of categories, and the start has a text tower of kind "
                f"{network.config.text.kind}: begin with a preset as `model`, or with a bundle that was trained so"
            )
