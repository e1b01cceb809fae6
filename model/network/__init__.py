"""The torch networks, CLIP and SigLIP, and those of libraries. The serving process imports none of them."""

from model.config import ModelConfig
from model.network.clip import CLIP
from model.network.library import LibraryNetwork
from model.network.siglip import SigLIP

Network = CLIP | SigLIP
AnyNetwork = Network | LibraryNetwork

__all__ = ["CLIP", "AnyNetwork", "LibraryNetwork", "Network", "SigLIP", "build_network"]


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with random weights."""
    return SigLIP(config) if config.image.kind == "siglip" else CLIP(config)
