"""Networks whose graphs have onnxruntime's fused operators in place of the nodes that they stand for.

Patterns of onnxruntime's offline optimiser match graphs of another exporter and find none of our attention. These
modules say the operators themselves to the exporter; in torch they cannot be run.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from model.network import Network
from model.network.transformer import (
    Attention,
    LayerNorm,
    Position,
    QuickGELU,
    ResidualAttentionBlock,
    Transformer,
    causal_mask,
    select_tokens,
)

DOMAIN = "com.microsoft"


def fuse(network: Network) -> None:
    """Exchange the transformers of a network, in place, for such that export as fused operators."""
    for module in network.modules():
        if type(module) is Transformer:
            module.__class__ = FusedTransformer


def fused_operators(proto: onnx.ModelProto) -> dict[str, int]:
    """How many nodes a graph has of each fused operator."""
    counts = Counter(node.op_type for node in proto.graph.node if node.domain == DOMAIN)
    return dict(sorted(counts.items()))


class FusedTransformer(Transformer):
    """Attention, residual sum with the norm behind it, and activation: one operator each."""

    def forward(
        self, x: Tensor, causal: bool = False, at: Position | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """As `Transformer.forward`."""
        visible = None if mask is None else mask.expand(-1, -1, x.shape[1], -1)  # its queries are not broadcast
        blocks = cast("list[ResidualAttentionBlock]", list(self.resblocks))
        change: Tensor | None = None
        for block in blocks:
            normed, x = (block.ln_1(x), x) if change is None else _add_norm(x, change, block.ln_1)
            queries, bias = None, None if visible is None else torch.where(visible, 0.0, -math.inf).to(x.dtype)
            if at is not None and block is blocks[-1]:
                bias = torch.where(causal_mask(x, at), 0.0, -math.inf).to(x.dtype) if causal else None
                queries, x = select_tokens(normed, at), select_tokens(x, at)
            attended = _attend(block.attn, normed, queries, bias, causal and queries is None)
            normed, x = _add_norm(x, attended, block.ln_2)
            expand, activation, contract = block.mlp
            change = contract(_activate(activation, expand(normed)))
        assert change is not None  # there is a block at least
        return x + change if at is None or isinstance(at, slice) else (x + change)[:, 0]


def _attend(attention: Attention, x: Tensor, queries: Tensor | None, bias: Tensor | None, causal: bool) -> Tensor:
    query, key, value = attention.project(x, queries)
    mixed = torch.onnx.ops.symbolic(
        f"{DOMAIN}::MultiHeadAttention",
        (query, key, value, None, None, bias),  # the two are a bias of the projection and a mask of the keys
        {"num_heads": attention.heads, "unidirectional": int(causal)},
        dtype=x.dtype,
        shape=query.shape,
        version=1,
    )
    output: Tensor = attention.out_proj(mixed)
    return output


def _add_norm(x: Tensor, change: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
    """The normalised sum, and the sum.

    In half precision the two stay apart: the fused operator normalises in the type of its input.
    """
    if x.dtype != torch.float32:
        return norm(x + change), x + change
    rows = (*x.shape[:-1], 1)
    normed, _, _, total = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::SkipLayerNormalization",
        (x, change, norm.weight, norm.bias),
        {"epsilon": norm.eps},
        dtypes=[x.dtype] * 4,
        shapes=[x.shape, rows, rows, x.shape],
        version=1,
    )
    return normed, total


def _activate(activation: nn.Module, x: Tensor) -> Tensor:
    if isinstance(activation, QuickGELU):
        return _elementwise("QuickGelu", x, alpha=1.702)
    assert isinstance(activation, nn.GELU)
    return _elementwise("FastGelu" if activation.approximate == "tanh" else "Gelu", x)


def _elementwise(operator: str, x: Tensor, **attributes: Any) -> Tensor:
    return torch.onnx.ops.symbolic(f"{DOMAIN}::{operator}", (x,), attributes, dtype=x.dtype, shape=x.shape, version=1)
