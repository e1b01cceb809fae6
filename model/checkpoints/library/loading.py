"""The weights of a checkpoint -> a network that a library has built: every tensor in its place, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.weights import INDEX, only_tensors, read_file, read_weights
from model.checkpoints.wrappers import SEGMENTS, dictionaries

_EXAMPLES = 3  # of names in a message


def read_state(file: Path, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file under the names of `expected`, and what was taken off around them, for people.

    Whatever dictionaries and prefixes a trainer has put around them: that prefix is taken under which most of the names
    are expected ones. Raises CheckpointError where none is.
    """
    content = read_weights(file) if file.name.endswith(INDEX) else read_file(file)
    with naming(file):
        path, names, prefix = max(_candidates(content, expected), key=lambda found: _matches(found, expected))
        if not _matches((path, names, prefix), expected):
            raise CheckpointError(f"none of its tensors has a name of the network's, such as {_some(expected)}")
        stripped = {
            SEGMENTS.sub("", name).removeprefix(prefix): tensor
            for name, tensor in names.items()
            if SEGMENTS.sub("", name).startswith(prefix)
        }
        state = only_tensors({name: value for name, value in stripped.items() if isinstance(value, Tensor)})
    within = "".join(f"[{key!r}]" for key in path)
    parts = [f"the dictionary {within}"] if within else []
    return state, ", ".join([*parts, *([f"names without {prefix!r}"] if prefix else [])])


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Give `network` the tensors of `state`, in float32. Returns the names that it has no place for.

    Raises CheckpointError for a tensor that is missing, of another shape, or not finite.
    """
    expected = network.state_dict()
    floats = {name for name, like in expected.items() if like.is_floating_point()}
    missing = sorted(name for name in floats if name not in state)
    if missing:
        raise CheckpointError(f"{len(missing)} of {len(expected)} tensors are missing: {_some(missing)}")
    for name in sorted(floats):
        tensor, like = state[name], expected[name]
        is_number = tensor.numel() == 1 == like.numel()  # the scale may be a list of one
        if tensor.shape != like.shape and not is_number:
            raise CheckpointError(f"{name} has shape {list(tensor.shape)}, the network needs {list(like.shape)}")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} holds {tensor.dtype}: quantised weights are refused")
        if not torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all():
            raise CheckpointError(f"{name} holds values that are not finite: the checkpoint is damaged or overflowed")
    given = {name: state[name].float().reshape(expected[name].shape) for name in floats}
    network.load_state_dict({**expected, **given})
    return sorted(name for name in state if name not in expected)


def _candidates(content: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[tuple[Any, Mapping[str, Any], str]]:
    """Dictionaries of the content, each with a prefix that its names may have."""
    anchors = sorted(expected, key=len, reverse=True)[:_EXAMPLES]
    found: list[tuple[Any, Mapping[str, Any], str]] = []
    for path, names in dictionaries(content):
        plain = {SEGMENTS.sub("", name): value for name, value in names.items() if isinstance(name, str)}
        prefixes = {name.removesuffix(anchor) for name in plain for anchor in anchors if name.endswith(anchor)}
        found += [(path, names, prefix) for prefix in {"", *prefixes}]
    return found


def _matches(found: tuple[Any, Mapping[str, Any], str], expected: Mapping[str, Tensor]) -> int:
    _, names, prefix = found
    plain = (SEGMENTS.sub("", name) for name in names if isinstance(name, str))
    return sum(name.startswith(prefix) and name.removeprefix(prefix) in expected for name in plain)


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:_EXAMPLES]) + (", ..." if len(listed) > _EXAMPLES else "")
