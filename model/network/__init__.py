"""The torch networks, CLIP and SigLIP, and those of libraries. The serving process imports none of them."""

import torch
from torch import nn

from model.category_config import CategoriesConfig
from model.config import ModelConfig
from model.network.categories import CategoryTable
from model.network.clip import CLIP
from model.network.library import LibraryNetwork
from model.network.pretrained_text import PretrainedText
from model.network.siglip import INITIAL_LOGIT_BIAS, INITIAL_LOGIT_SCALE, SigLIP
from model.pretrained_text import TransformersTextConfig

Network = CLIP | SigLIP
AnyNetwork = Network | LibraryNetwork

__all__ = [
    "CLIP", "AnyNetwork", "LibraryNetwork", "Network", "PretrainedText", "SigLIP", "build_network", "loss_parameters",
]  # fmt: skip


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with random weights."""
    if isinstance(config.text, CategoriesConfig):
        return _of_categories(config, config.text)
    if isinstance(config.text, TransformersTextConfig):
        return CLIP(config, PretrainedText(config.text, config.embed_dim))
    return SigLIP(config) if config.image.kind == "siglip" else CLIP(config)


def _of_categories(config: ModelConfig, categories: CategoriesConfig) -> CLIP:
    """CatLIP's: each pair of a picture and a category is judged alone, with the scale and bias of SigLIP."""
    network = CLIP(config, CategoryTable(categories, config.embed_dim))
    network.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
    network.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS))
    return network


def loss_parameters(network: nn.Module, prefix: str = "") -> dict[str, nn.Parameter]:
    """What a network has for its loss and in none of its towers, by name: logit scale and bias, and what mixes (Llip).

    `prefix` stands before the names where it is a part of what is given: `network.`.
    """
    own = (f"{prefix}logit_scale", f"{prefix}logit_bias", f"{prefix}mixture.")
    return {name: parameter for name, parameter in network.named_parameters() if name.startswith(own)}
