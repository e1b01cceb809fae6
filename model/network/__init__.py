"""The torch networks, CLIP and SigLIP. The serving process imports none of them."""

from model.config import ModelConfig
from model.network.clip import CLIP
from model.network.siglip import SigLIP

Network = CLIP | SigLIP

__all__ = ["CLIP", "Network", "SigLIP", "build_network"]


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with random weights."""
    return SigLIP(config) if config.image.kind == "siglip" else CLIP(config)
