"""The weights of a checkpoint -> a network that a library has built: every tensor in its place, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.library.state_dicts import unwrap_for
from model.checkpoints.weights import INDEX, read_file, read_weights
from model.checkpoints.wrappers import Unwrapped

_EXAMPLES = 3  # of names in a message
_PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_state(file: Path, expected: Mapping[str, Tensor]) -> Unwrapped:
    """The tensors of a file under the names of `expected`, without whatever a trainer has put around them.

    They are backed by the file where its format allows that. Raises CheckpointError where the file holds no such model,
    or several.
    """
    content = read_weights(file) if file.name.endswith(INDEX) else read_file(file)
    with naming(file):
        return unwrap_for(content, expected)


def check(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for what a network with the tensors `expected` cannot have of `state`.

    That is a tensor that is missing, of another shape, or quantised. `expected` may be without memory ("meta").
    """
    floats = sorted(name for name, like in expected.items() if like.is_floating_point())
    missing = [name for name in floats if name not in state]
    if missing:
        raise CheckpointError(f"{len(missing)} of {len(expected)} tensors are missing: {_some(missing)}")
    for name in floats:
        tensor, like = state[name], expected[name]
        is_number = tensor.numel() == 1 == like.numel()  # the scale may be a list of one
        if tensor.shape != like.shape and not is_number:
            raise CheckpointError(f"{name} has shape {list(tensor.shape)}, the network needs {list(like.shape)}")
        if tensor.dtype not in _PLAIN:
            raise CheckpointError(f"{name} holds {tensor.dtype}: quantised weights are refused")


@torch.no_grad()
def fill(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Give `network` the tensors of `state`, in float32. Returns the names that it has no place for.

    They are copied one by one, so that no second copy of the model comes about. Raises CheckpointError as `check`, and
    for a tensor with values that are not finite.
    """
    expected = network.state_dict()
    check(expected, state)
    given = {name: state[name].reshape(like.shape) for name, like in expected.items() if like.is_floating_point()}
    network.load_state_dict({**expected, **given})
    for name in given:
        # Of what was loaded: a number may be finite in the file and beyond what float32 holds.
        if expected[name].numel() and not torch.isfinite(torch.stack(torch.aminmax(expected[name]))).all():
            raise CheckpointError(f"{name} holds values that are not finite: the checkpoint is damaged or overflowed")
    return sorted(name for name in state if name not in expected)


def without_place(surplus: Sequence[str]) -> list[str]:
    """The warning that tensors of a file are none of the network's, where there are such."""
    return [f"{len(surplus)} tensors have no place in the network: {_some(surplus)}"] if surplus else []


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_EXAMPLES]) + (", ..." if len(listed) > _EXAMPLES else "")
