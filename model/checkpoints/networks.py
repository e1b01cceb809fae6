"""State dictionaries -> networks: of checkpoints of others, whose layers must be ours, and of bundles."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model.bundle import Bundle
from model.checkpoints.checkpoint import Checkpoint, CheckpointError
from model.checkpoints.weights import read_weights
from model.config import ModelConfig
from model.library_config import LibraryConfig
from model.manifest import WEIGHTS
from model.network import Network, build_network

# Counted in training and used by nothing; older checkpoints have none.
_MAY_BE_MISSING = "num_batches_tracked"
# Text towers, by kind, that are in bundles alone.
_ONLY_OURS = {"categories": "a table of categories for a text tower", "transformers": "a pretrained text tower"}
_MAX_LOG_LOGIT_SCALE = 20.0  # as its logarithm; published ones have 4.6

# The first that matches names the layer; groups come before their parts.
_FOREIGN_LAYERS = {
    r"visual\.trunk\.": "an image tower of timm",
    r"(text_)?decoder\.": "the text decoder of CoCa",
    r"visual\.attn_pool(_contrastive)?\.": "the attentional pooling of CoCa",
    r"(text\.)?cls_emb\b": "a class token in the text tower",
    r"(visual\.)?head\.": "a head of another tower",
    r".*\.ls_[12]\.": "LayerScale",
    r".*\.(q_norm|k_norm|ln_q|ln_k)\.": "normalised queries and keys",
    r".*\.(ln_attn|attn\.ln_inner|attn\.norm)\.": "a second norm in attention",
    r".*\.(w[123]|gate_proj)\.": "gated perceptrons",
    r"(image_encoder|text_encoder)\.": "a tower of MobileCLIP",
    r"(text\.)?transformer\.(embeddings|encoder|layer|shared|block)\.": "a text tower of transformers",
    r"(vision_model|text_model)\.": "a tower of transformers, which is imported with the folder that has config.json",
}


def to_network(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, in float32; the tensors move from `checkpoint.state` into it.

    Raises CheckpointError naming a tensor that is missing, misshapen, not a number or not ours.
    """
    return load_state_dict(checkpoint.config, checkpoint.state)


def load_state_dict(config: ModelConfig, state: dict[str, Tensor]) -> Network:
    """The network of a configuration, in float32, with the tensors of `state`, which is emptied."""
    # Without memory of its own: large models would not fit twice.
    with torch.device("meta"):
        network = build_network(config)
        if "logit_bias" in state and network.logit_bias is None:  # trained pair by pair, which no configuration says
            network.logit_bias = nn.Parameter(torch.empty(()))
    expected = network.state_dict()
    _refuse_surplus(state, expected, config.name)
    for name, like in expected.items():
        _check(name, state.get(name), like, config.name)
    taken: set[int] = set()
    loaded = {}
    for name in expected:
        tensor = state.pop(name, None)
        loaded[name] = torch.zeros((), dtype=torch.int64) if tensor is None else _own(name, tensor, taken)
    scale = float(loaded["logit_scale"])
    if abs(scale) > _MAX_LOG_LOGIT_SCALE:
        raise CheckpointError(f"logit_scale is {scale:.4g}: a logarithm of at most {_MAX_LOG_LOGIT_SCALE} is expected")
    network.load_state_dict(loaded, assign=True)
    return network.eval()


def load_network(bundle: Bundle) -> Network:
    """The network of a bundle, in float32, ready to be trained further or written in another format.

    Raises CheckpointError for a variant.
    """
    return to_network(read_bundle(bundle))


def read_bundle(bundle: Bundle) -> Checkpoint:
    """What the readers of other formats give, of a bundle. Raises CheckpointError for a variant."""
    refuse_variant(bundle)
    config = own_config(bundle)
    weights = read_weights(bundle.path / WEIGHTS)
    return Checkpoint(config, weights, bundle.preprocessing, bundle.tokenizer(), source={})


def own_config(bundle: Bundle) -> ModelConfig:
    """The configuration of a bundle whose network is one of ours. Raises CheckpointError for one of a library."""
    config = bundle.manifest.config
    if isinstance(config, LibraryConfig):
        raise CheckpointError(
            f"{bundle.path} is {config.architecture} of {config.library}, whose network is not ours: the bundle has "
            "its graphs, to be served. To train it or to write it in another format, take what it was imported from"
        )
    return config


def writable_config(bundle: Bundle) -> ModelConfig:
    """The configuration of a bundle that other formats can hold. Raises CheckpointError for one that none does."""
    config = own_config(bundle)
    if config.text.kind in _ONLY_OURS:
        raise CheckpointError(
            f"{bundle.path} has {_ONLY_OURS[config.text.kind]}, which no other format holds: serve the bundle "
            "as it is, or train it further"
        )
    if bundle.mixture is not None:
        raise CheckpointError(
            f"{bundle.id} has {bundle.mixture.tokens} vectors of a picture, which are mixed for each text, and no "
            "other format has that: serve the bundle, or train it further"
        )
    return config


def refuse_variant(bundle: Bundle) -> None:
    """Raise CheckpointError for a variant, whose weights were rounded or fused, naming what it was made from."""
    variant = bundle.manifest.variant
    if variant is not None or bundle.precision != "fp32":
        origin = f"{variant.made_from_id}, digest {variant.made_from[:12]}" if variant else "the one it was made from"
        raise CheckpointError(f"{bundle.path} is a variant, which nothing is made from: use its origin, {origin}")


def refuse_foreign(names: Iterable[str]) -> None:
    """Raise CheckpointError for the first name that belongs to a layer known not to be ours."""
    for name in names:
        for pattern, layer in _FOREIGN_LAYERS.items():
            if re.match(pattern, name):
                raise CheckpointError(f"{name} belongs to {layer}: not supported")


def _refuse_surplus(names: Iterable[str], expected: Iterable[str], model: str) -> None:
    """Raise CheckpointError where there are names beyond the expected ones."""
    known = set(expected)
    surplus = sorted(name for name in names if name not in known)
    refuse_foreign(surplus)
    if surplus:
        others = f" and {len(surplus) - 1} further tensors belong" if len(surplus) > 1 else " belongs"
        raise CheckpointError(f"{surplus[0]}{others} to no layer of {model}: not supported")


def _check(name: str, tensor: Tensor | None, like: Tensor, model: str) -> None:
    if tensor is None:
        if name.endswith(_MAY_BE_MISSING):
            return
        raise CheckpointError(f"the checkpoint has no {name}, which {model} needs")
    if tensor.shape != like.shape:
        raise CheckpointError(f"{name} has shape {list(tensor.shape)}, {model} needs {list(like.shape)}")
    if tensor.is_floating_point() != like.is_floating_point():
        raise CheckpointError(f"{name} holds {tensor.dtype}, {model} needs {like.dtype}: quantised weights are refused")


def _own(name: str, tensor: Tensor, taken: set[int]) -> Tensor:
    """In float32, and sharing memory with no other: weights that are stored once and used twice become two."""
    if tensor.is_floating_point():
        # A NaN anywhere is the smallest and the largest; looking at each value takes thirty times as long.
        if not torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all():
            raise CheckpointError(f"{name} holds values that are not finite: the checkpoint is damaged or overflowed")
        tensor = tensor.detach().float().contiguous()
    address = tensor.untyped_storage().data_ptr()
    if address in taken:
        return tensor.clone()
    taken.add(address)
    return tensor
