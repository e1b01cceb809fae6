"""Graphs of every family and form that is exported, on random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from model.config import ModelConfig, Preprocessing, SiglipTextConfig, SiglipViTConfig
from model.export.graphs import write_graphs
from model.export.tensors import write_tensors
from model.manifest import WEIGHTS
from model.network import Network, build_network
from model.variants.fusion import fuse
from model.variants.half_precision import to_bfloat16
from tests.model.conftest import TINY_RESNET, TINY_VIT

SIGLIP = ModelConfig(
    name="tiny-siglip",
    embed_dim=48,
    activation="gelu_tanh",
    image=SiglipViTConfig(image_size=50, patch_size=14, width=48, layers=2, heads=3, mlp_width=100),
    text=SiglipTextConfig(context_length=16, vocab_size=100, width=48, layers=2, heads=3),
)
# The bundled checkpoint is a family of its own, a ResNet of other blocks, and looked at as it is.
FAMILIES = {"vit": TINY_VIT, "resnet": TINY_RESNET, "siglip": SIGLIP}


def _half_matrices(network: Network) -> None:
    """What a bundle keeps in half precision and computes in single."""
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()


def _fused_half(network: Network) -> None:
    network.half()
    fuse(network)


FORMS: dict[str, Callable[[Network], object]] = {
    "fp32": lambda network: None,
    "fp32-fused": fuse,
    "fp16": lambda network: network.half(),
    "fp16-fused": _fused_half,
    "fp32-stored-in-half": _half_matrices,
    "bf16": lambda network: None,
}


def export(family: str, form: str, folder: Path) -> Path:
    """Write the graphs and weights of a family in a form into a folder; returns it."""
    config = FAMILIES[family]
    torch.manual_seed(0)
    network = build_network(config).eval()
    FORMS[form](network)
    state = network.state_dict()
    if form == "fp32-stored-in-half":
        state |= {name: tensor.half() for name, tensor in state.items() if tensor.dim() > 1}
    write_tensors(to_bfloat16(state) if form == "bf16" else state, folder / WEIGHTS)
    write_graphs(network, Preprocessing(size=config.image.image_size), folder)
    return folder
