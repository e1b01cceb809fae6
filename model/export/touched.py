"""Which tensors of a network a graph reads: a library's networks hold more than their two towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the storage of every tensor that an operator gets."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        self.read.update(leaf.untyped_storage().data_ptr() for leaf in leaves if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def touched_state(graph: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """The parameters and buffers in floating point that `graph` reads when it embeds `example`, by name.

    Whole numbers, which are positions and indices, stay constants of the graph.
    """
    with _Storages() as storages:
        graph(example)
    state = {**dict(graph.named_parameters()), **dict(graph.named_buffers())}
    return {
        name: tensor.detach()
        for name, tensor in state.items()
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() in storages.read
    }
