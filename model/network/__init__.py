"""The torch networks. Nothing of the serving process may import them."""

from model.config import ModelConfig
from model.network.clip import CLIP

Network = CLIP

__all__ = ["CLIP", "Network", "build_network"]


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with random weights."""
    return CLIP(config)
