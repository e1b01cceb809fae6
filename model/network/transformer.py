"""The pre-norm transformer that both the vision transformer and the text tower are built from.

Parameter names are those of the original release, so that its checkpoints load without a map.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Activation, TransformerConfig
from model.network.gradient_checkpointing import CheckpointedModule

# Of one token in each row, counted from 0: the same everywhere, or [batch]; or of several that follow each other.
Position = int | Tensor | slice


@dataclass(frozen=True)
class Stack:
    """The sizes of a stack of blocks; `mlp_width` None is four times the width."""

    width: int
    layers: int
    heads: int
    mlp_width: int | None
    norm_eps: float
    activation: Activation

    @classmethod
    def of(cls, tower: TransformerConfig, activation: Activation) -> Stack:
        """The sizes in a tower's configuration."""
        return cls(tower.width, tower.layers, tower.heads, tower.mlp_width, tower.norm_eps, activation)


class LayerNorm(nn.LayerNorm):
    """Normalises in float32 whatever the input's type: half precision loses the small variances (CLIP#171)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., width] and keep its type."""
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(x.dtype)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximation that the original weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        return x * torch.sigmoid(1.702 * x)


def activation_module(activation: Activation) -> nn.Module:
    """The nonlinearity of that name; `gelu_tanh` is the approximation that SigLIP was trained with."""
    if activation == "quick_gelu":
        return QuickGELU()
    return nn.GELU(approximate="tanh" if activation == "gelu_tanh" else "none")


class Attention(nn.Module):
    """Multi-head self-attention with one fused input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        """[batch, tokens, width] -> [batch, queries, width]: what `queries`, by default x itself, gather from x.

        `mask` [.., queries, tokens] is true where a token may be looked at, None is everywhere.
        """
        projected = self.project(x, queries)
        query, key, value = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in projected)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output

    def project(self, x: Tensor, queries: Tensor | None = None) -> tuple[Tensor, ...]:
        """Queries [batch, queries, width], keys and values [batch, tokens, width]."""
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, x.shape[-1]
        if queries is None:
            return F.linear(x, weight, bias).chunk(3, dim=-1)
        query = F.linear(queries, weight[:width], bias[:width])
        return query, *F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)


class ResidualAttentionBlock(nn.Module):
    """Attention and a wider perceptron, each normalised before and added after."""

    def __init__(self, stack: Stack) -> None:
        """`layers` of the whole stack decide the initialisation: outputs are narrower where more of them add up."""
        super().__init__()
        width, layers, hidden = stack.width, stack.layers, stack.mlp_width or 4 * stack.width
        expand, contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.ln_1 = LayerNorm(width, eps=stack.norm_eps)
        self.attn = Attention(width, stack.heads)
        self.ln_2 = LayerNorm(width, eps=stack.norm_eps)
        self.mlp = nn.Sequential(OrderedDict(c_fc=expand, gelu=activation_module(stack.activation), c_proj=contract))
        # The deviations that the paper's code gives the text tower; it leaves the image tower to torch's defaults.
        attention_std = width**-0.5
        output_std = attention_std * (2 * layers) ** -0.5
        nn.init.normal_(self.attn.in_proj_weight, std=attention_std)
        nn.init.normal_(self.attn.out_proj.weight, std=output_std)
        nn.init.normal_(expand.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(contract.weight, std=output_std)

    def forward(self, x: Tensor, mask: Tensor | None = None, at: Position | None = None) -> Tensor:
        """[batch, tokens, width] -> the same, or with `at` what is at those positions of each row."""
        normed = self.ln_1(x)
        queries = None if at is None else select_tokens(normed, at)
        x = (x if at is None else select_tokens(x, at)) + self.attn(normed, mask, queries)
        output: Tensor = x + self.mlp(self.ln_2(x))
        return output


class Transformer(CheckpointedModule):
    """`layers` residual attention blocks, one after the other."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(stack) for _ in range(stack.layers))

    def forward(
        self, x: Tensor, causal: bool = False, at: Position | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """[batch, tokens, width] -> the same, or with `at` what is at that position of each row, [batch, width].

        Of positions that are a slice it is [batch, positions, width]. `causal` hides later tokens from earlier ones; or
        `mask` is true where a token may be looked at, [batch, 1, 1, tokens]. Of the last block nothing is computed but
        what was asked for.
        """
        *blocks, last = self.resblocks
        mask = causal_mask(x) if causal else mask
        for block in blocks:
            x = self.run(block, x, mask)
        if at is None:
            whole: Tensor = self.run(last, x, mask)
            return whole
        pooled: Tensor = self.run(last, x, causal_mask(x, at) if causal else mask, at)
        return pooled if isinstance(at, slice) else pooled[:, 0]


def gather_tokens(x: Tensor, kept: Tensor) -> Tensor:
    """[batch, tokens, width] -> [batch, kept, width]: of each row the tokens in `kept` [batch, kept]."""
    return x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def select_tokens(x: Tensor, at: Position) -> Tensor:
    """[batch, tokens, width] -> [batch, 1, width]: of each row the token at its position, or those at several."""
    if isinstance(at, slice):
        return x[:, at]
    if isinstance(at, int):
        return x[:, at].unsqueeze(1)
    return x[torch.arange(x.shape[0], device=x.device), at].unsqueeze(1)


def causal_mask(x: Tensor, at: Position | None = None) -> Tensor:
    """Which tokens of x [batch, tokens, width] are not later than each, [tokens, tokens], or than the one `at`.

    The latter is [batch, 1, 1, tokens], or [tokens] where it is the same in each row.
    """
    assert not isinstance(at, slice)  # of several tokens, none is asked for where the later ones are hidden
    places = torch.arange(x.shape[1], device=x.device)
    if at is None:
        return places <= places[:, None]
    return places <= (at if isinstance(at, int) else at[:, None, None, None])
