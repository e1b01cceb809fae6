"""A network without memory: what a configuration asks for, known before anything of that size is allocated.

A few bytes of JSON can describe a network of terabytes, or one that takes years to be put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.checkpoints.checkpoint import CheckpointError

_MOST = {
    **dict.fromkeys(("layers", "depth", "depths", "num_hidden_layers", "num_layers"), 512),
    **dict.fromkeys(("width", "hidden_size", "embed_dim", "d_model", "output_dim"), 32_768),
    **dict.fromkeys(("image_size", "img_size", "patch_size"), 4096),
    **dict.fromkeys(("heads", "num_heads", "num_attention_heads", "mlp_ratio"), 1024),
    "context_length": 32_768,
    "vocab_size": 2_000_000,
}
_MOST_OTHERWISE = 16_000_000
_MAX_FIELDS, _MAX_DEPTH, _MAX_CHARACTERS = 10_000, 16, 10_000
_OPERATIONS = 100_000  # to build a network: the largest of open_clip takes 4,500
_UNSAVED = 2**28  # numbers in what a network computes for itself, such as masks, or throws away while it is built
_POSITIONS = 2**28  # numbers in a table of positions, which open_clip may compute without torch


def refuse_absurd(cfg: Any, where: str) -> None:
    """Raise CheckpointError, naming the field, for numbers that are no network's, and for fields without end."""
    waiting: list[tuple[str, str, Any, int]] = [(where, "", cfg, 0)]
    for count, (path, name, value, depth) in enumerate(waiting):  # which grows
        if count > _MAX_FIELDS or depth > _MAX_DEPTH:
            raise CheckpointError(f"{where} has more than {_MAX_FIELDS} fields, or is nested deeper than {_MAX_DEPTH}")
        if isinstance(value, Mapping):
            waiting += [(f"{path}.{key}"[:200], str(key), inner, depth + 1) for key, inner in value.items()]
            _refuse_positions(path, value)
        elif isinstance(value, list | tuple):
            waiting += [(path, name, inner, depth + 1) for inner in value]
        elif isinstance(value, str) and len(value) > _MAX_CHARACTERS:
            raise CheckpointError(f"{path} has {len(value)} characters")
        elif isinstance(value, int | float):
            least, most = (1e-3, _MOST[name]) if name in _MOST else (-_MOST_OTHERWISE, _MOST_OTHERWISE)
            if not least <= value <= most:
                raise CheckpointError(
                    f"{path} is {value!r:.30}: {f'{most} is the most' if value > most else 'no size'}"
                )


def outline(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` makes, its tensors without memory. Raises CheckpointError for one without end.

    And for one that would need memory beyond its weights that no network needs.
    """
    watch = _Watch()
    with torch.device("meta"), watch:
        network = build()
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    saved = network.state_dict().keys()
    weights = sum(tensor.numel() for name, tensor in named.items() if name in saved)
    unsaved = sum(tensor.numel() for name, tensor in named.items() if name not in saved)
    if unsaved > _UNSAVED or watch.largest > max(_UNSAVED, weights):
        raise CheckpointError(
            f"building this network takes tables of {max(unsaved, watch.largest):,} numbers beside its weights"
        )
    return network


class _Watch(TorchDispatchMode):
    """Counts what is computed, and remembers the size of the largest result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.largest = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if self.operations > _OPERATIONS:
            raise CheckpointError(f"building this network takes more than {_OPERATIONS:,} operations")
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.largest = max(self.largest, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


def _refuse_positions(path: str, fields: Mapping[str, Any]) -> None:
    image, patch, width = (_largest(fields.get(name)) for name in ("image_size", "patch_size", "width"))
    numbers = (image // patch) ** 2 * width if patch else 0
    if numbers > _POSITIONS:
        raise CheckpointError(f"{path} asks for a table of positions of {numbers:,} numbers")


def _largest(value: Any) -> int:
    """Of a size that is one number or a list of them; 0 of what is no size."""
    numbers = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, int)]
    return max(0, *numbers) if numbers else 0
