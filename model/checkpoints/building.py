"""A checkpoint that was read -> the network with its weights."""

from __future__ import annotations

import torch
from torch import Tensor

from model.checkpoints import layers
from model.checkpoints.checkpoint import Checkpoint, CheckpointError
from model.config import ModelConfig
from model.network import Network, build_network

# Counted in training and used by nothing; older checkpoints have none.
_MAY_BE_MISSING = "num_batches_tracked"
_LARGEST_LOGIT_SCALE = 20.0  # as its logarithm; published ones have 4.6


def build(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, in float32; the tensors move from `checkpoint.state` into it.

    Raises CheckpointError naming a tensor that is missing, misshapen, not a number or not ours.
    """
    return assemble(checkpoint.config, checkpoint.state)


def assemble(config: ModelConfig, state: dict[str, Tensor]) -> Network:
    """The network of a configuration, in float32, with the tensors of `state`, which is emptied."""
    # Without memory of its own: large models would not fit twice.
    with torch.device("meta"):
        network = build_network(config)
    wanted = network.state_dict()
    layers.refuse_surplus(state, wanted, config.name)
    for name, like in wanted.items():
        _check(name, state.get(name), like, config.name)
    taken: set[int] = set()
    loaded = {}
    for name in wanted:
        tensor = state.pop(name, None)
        loaded[name] = torch.zeros((), dtype=torch.int64) if tensor is None else _owned(name, tensor, taken)
    scale = float(loaded["logit_scale"])
    if abs(scale) > _LARGEST_LOGIT_SCALE:
        raise CheckpointError(f"logit_scale is {scale:.4g}: a logarithm of at most {_LARGEST_LOGIT_SCALE} is expected")
    network.load_state_dict(loaded, assign=True)
    return network.eval()


def _check(name: str, tensor: Tensor | None, like: Tensor, model: str) -> None:
    if tensor is None:
        if name.endswith(_MAY_BE_MISSING):
            return
        raise CheckpointError(f"the checkpoint has no {name}, which {model} needs")
    if tensor.shape != like.shape:
        raise CheckpointError(f"{name} has shape {list(tensor.shape)}, {model} needs {list(like.shape)}")
    if tensor.is_floating_point() != like.is_floating_point():
        raise CheckpointError(f"{name} holds {tensor.dtype}, {model} needs {like.dtype}: quantised weights are refused")


def _owned(name: str, tensor: Tensor, taken: set[int]) -> Tensor:
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
