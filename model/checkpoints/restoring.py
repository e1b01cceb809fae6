"""A bundle -> the checkpoint and the network that it was exported from."""

from __future__ import annotations

from model.bundle import Bundle
from model.checkpoints.building import build
from model.checkpoints.checkpoint import Checkpoint, CheckpointError
from model.checkpoints.weights import read_weights
from model.manifest import WEIGHTS
from model.network import Network


def load_network(bundle: Bundle) -> Network:
    """The network of a bundle, in float32, ready to be trained further or written in another format.

    Raises CheckpointError for a variant.
    """
    return build(read_bundle(bundle))


def read_bundle(bundle: Bundle) -> Checkpoint:
    """What the readers of other formats give, of a bundle. Raises CheckpointError for a variant."""
    refuse_variant(bundle)
    weights = read_weights(bundle.path / WEIGHTS)
    return Checkpoint(bundle.manifest.config, weights, bundle.preprocessing, bundle.tokenizer(), source={})


def refuse_variant(bundle: Bundle) -> None:
    """Raise CheckpointError for a variant, whose weights were rounded or fused, naming what it was made from."""
    variant = bundle.manifest.variant
    if variant is not None or bundle.precision != "fp32":
        origin = f"{variant.made_from_id}, digest {variant.made_from[:12]}" if variant else "the one it was made from"
        raise CheckpointError(f"{bundle.path} is a variant, which nothing is made from: use its origin, {origin}")
