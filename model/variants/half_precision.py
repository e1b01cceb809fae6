"""Weights in sixteen bits, and whether half precision can hold what a network computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from model.config import Preprocessing
from model.export.graphs import ImageGraph, TextGraph
from model.network import Network
from model.variants.options import VariantError

MAX_FP16 = torch.finfo(torch.float16).max
INSTEAD = "use --precision bf16, whose range is that of fp32, or int8"


def to_half(network: Network) -> None:
    """Make parameters and statistics fp16, in place. Raises VariantError naming a tensor that is too large for it."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.abs().max() <= MAX_FP16:  # written so that NaN fails too
            raise VariantError(f"{name} reaches {tensor.abs().max():.3g}, fp16 ends at {MAX_FP16:.0f}: {INSTEAD}")
    network.half()


@torch.no_grad()
def check_activations(
    network: Network, preprocessing: Preprocessing, pixels: npt.NDArray[np.uint8], ids: npt.NDArray[np.int64]
) -> None:
    """Run a network in fp16. Raises VariantError naming the first layer whose output is not finite."""
    hooks = [
        module.register_forward_hook(partial(_require_finite, name)) for name, module in network.named_modules() if name
    ]
    try:
        ImageGraph(network, preprocessing)(torch.from_numpy(pixels))
        TextGraph(network)(torch.from_numpy(ids))
    finally:
        for hook in hooks:
            hook.remove()


def to_bfloat16(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state whose matrices are rounded to bfloat16; vectors stay as they are."""
    narrow = {
        name: tensor.bfloat16() for name, tensor in state.items() if tensor.dim() > 1 and tensor.is_floating_point()
    }
    return {**state, **narrow}


def _require_finite(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    # A library's layers may give several outputs, some of them none, or an object with them.
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise VariantError(f"the output of {name} leaves the range of fp16: {INSTEAD}")
