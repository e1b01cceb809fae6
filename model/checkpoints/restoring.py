"""A bundle -> the network that it was exported from."""

from __future__ import annotations

from safetensors.torch import load_file

from model.bundle import WEIGHTS, Bundle
from model.checkpoints.checkpoint import CheckpointError
from model.network import Network, build_network


def load_network(bundle: Bundle) -> Network:
    """The network of a bundle, in float32, ready to be trained further or written in another format.

    Raises CheckpointError for a variant, whose weights were rounded or fused.
    """
    if bundle.precision != "fp32":
        raise CheckpointError(f"{bundle.path} is a variant in {bundle.precision}: use the bundle that it was made from")
    network = build_network(bundle.manifest.config)
    state = load_file(bundle.path / WEIGHTS)
    network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()})
    return network.eval()
