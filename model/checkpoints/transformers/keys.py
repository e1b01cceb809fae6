"""Names and layouts of the tensors of transformers' CLIPModel and SiglipModel, and of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError
from model.config import ModelConfig, SiglipTextConfig, TextConfig
from model.network import build_network

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_POOL = {"attn.out_proj": "attention.out_proj", "ln_2": "layernorm", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
# Beside the weights, old files hold the numbers 0, 1, 2, ... of the positions.
_COUNTERS = {"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}


@dataclass(frozen=True)
class _Pair:
    """A tensor of ours, and what holds the same numbers in theirs: several are one below the other in ours."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    wrapped: bool = False  # theirs has one dimension more, of one entry

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Our tensors, from those of transformers."""
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self.transposed:
            return whole.t()
        return whole.squeeze(0) if self.wrapped else whole

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """The tensors of transformers, from ours."""
        if self.transposed:
            tensor = tensor.t()
        if self.wrapped:
            tensor = tensor.unsqueeze(0)
        parts = tensor.chunk(len(self.theirs)) if len(self.theirs) > 1 else (tensor,)
        return dict(zip(self.theirs, parts, strict=True))


def _pairs(config: ModelConfig) -> Iterator[_Pair]:
    assert config.image.kind != "resnet"
    assert isinstance(config.text, TextConfig | SiglipTextConfig)
    yield _Pair("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",))
    yield _Pair("positional_embedding", ("text_model.embeddings.position_embedding.weight",))
    yield from _both("ln_final", "text_model.final_layer_norm")
    yield _Pair("visual.conv1.weight", ("vision_model.embeddings.patch_embedding.weight",))
    yield _Pair("visual.positional_embedding", ("vision_model.embeddings.position_embedding.weight",))
    yield from _both("visual.ln_post", "vision_model.post_layernorm")
    yield from _of_siglip() if config.image.kind == "siglip" else _of_clip()
    yield from _blocks("transformer", "text_model", config.text.layers)
    yield from _blocks("visual.transformer", "vision_model", config.image.layers)


def _of_clip() -> Iterator[_Pair]:
    yield _Pair("logit_scale", ("logit_scale",))
    yield _Pair("text_projection", ("text_projection.weight",), transposed=True)
    yield _Pair("visual.class_embedding", ("vision_model.embeddings.class_embedding",))
    yield from _both("visual.ln_pre", "vision_model.pre_layrnorm")
    yield _Pair("visual.proj", ("visual_projection.weight",), transposed=True)


def _of_siglip() -> Iterator[_Pair]:
    yield _Pair("logit_scale", ("logit_scale",), wrapped=True)
    yield _Pair("logit_bias", ("logit_bias",), wrapped=True)
    yield from _both("text_projection", "text_model.head")
    yield _Pair("visual.conv1.bias", ("vision_model.embeddings.patch_embedding.bias",))
    yield _Pair("visual.pool.query", ("vision_model.head.probe",), wrapped=True)
    for part in ("weight", "bias"):
        yield _Pair(f"visual.pool.attn.in_proj_{part}", (f"vision_model.head.attention.in_proj_{part}",))
    for ours, theirs in _POOL.items():
        yield from _both(f"visual.pool.{ours}", f"vision_model.head.{theirs}")


def _blocks(ours: str, theirs: str, layers: int) -> Iterator[_Pair]:
    for layer in range(layers):
        our_block, their_block = f"{ours}.resblocks.{layer}", f"{theirs}.encoder.layers.{layer}"
        for our_name, their_name in _BLOCK.items():
            yield from _both(f"{our_block}.{our_name}", f"{their_block}.{their_name}")
        for part in ("weight", "bias"):
            split = tuple(f"{their_block}.self_attn.{letter}_proj.{part}" for letter in "qkv")
            yield _Pair(f"{our_block}.attn.in_proj_{part}", split)


def _both(ours: str, theirs: str) -> Iterator[_Pair]:
    for part in ("weight", "bias"):
        yield _Pair(f"{ours}.{part}", (f"{theirs}.{part}",))


def to_ours(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Tensors of a CLIPModel or SiglipModel under the names, and in the layout, of our network.

    Raises CheckpointError naming, as they do, a tensor that is missing, misshapen or quantised, or that no layer takes.
    """
    # Without memory: this is about names and shapes.
    with torch.device("meta"):
        expected = to_theirs(build_network(config).state_dict(), config)
    found = {name: _tensor(state, name, like) for name, like in expected.items()}
    surplus = sorted(set(state) - set(expected) - _COUNTERS)
    if surplus:
        others = f" and {len(surplus) - 1} further tensors belong" if len(surplus) > 1 else " belongs"
        raise CheckpointError(f"{surplus[0]}{others} to no layer of the model that config.json describes")
    return {pair.ours: pair.joined([found[name] for name in pair.theirs]) for pair in _pairs(config)}


def to_theirs(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Tensors of our network under the names, and in the layout, of a CLIPModel or SiglipModel."""
    return {name: part for pair in _pairs(config) for name, part in pair.split(state[pair.ours]).items()}


def _tensor(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    if name not in state:
        raise CheckpointError(f"the weights have no {name}, which config.json asks for: a file may be missing")
    tensor = state[name]
    if not tensor.is_floating_point():
        raise CheckpointError(f"{name} holds {tensor.dtype}: import the checkpoint that it was quantised from")
    # Some trainers keep a number as a list of one, or a list of one as a number.
    if tensor.shape != like.shape and not tensor.numel() == like.numel() == 1:
        raise CheckpointError(f"{name} has shape {list(tensor.shape)}, config.json asks for {list(like.shape)}")
    return tensor.reshape(like.shape)
