"""The same function of a library's network in fewer operators, for its graphs: which are measured against the original.

Convolutions that were trained as several in parallel become one, by timm's own code, and attention of torch, which
transposes to tokens first and keeps its shapes in nodes, is written as ours is.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network import LibraryNetwork

FUSED = "reparam_conv"  # in the names of tensors that timm has made one of several; it cannot be done twice


@torch.no_grad()
def simplified(network: LibraryNetwork) -> LibraryNetwork:
    """A network of the same vectors for fewer operators. Tensors that stay are shared with `network`, which stays."""
    tensors = chain(network.parameters(), network.buffers())
    copied = deepcopy(network, {id(tensor): tensor for tensor in tensors})
    of_timm = any(type(module).__module__.startswith("timm.") for module in copied.modules())
    if of_timm and not any(FUSED in name for name in copied.state_dict()):
        from timm.models import reparameterize_model

        reparameterize_model(copied, inplace=True)
    for module in copied.modules():
        if type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn:
            module.__class__ = BatchedAttention
    return copied


class BatchedAttention(nn.MultiheadAttention):
    """Attention of torch's parameters and arguments, without its weights."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """[batch, queries, width], tokens first without `batch_first` -> the same, and None where none are wanted."""
        if query.dim() != 3 or key_padding_mask is not None or need_weights:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        projected = self._project(query, key, value)
        if not self.batch_first:
            projected = tuple(part.transpose(0, 1) for part in projected)
        split = [part.reshape(*part.shape[:2], self.num_heads, -1).transpose(1, 2) for part in projected]
        mask = attn_mask
        if mask is not None and mask.dim() == 3:  # one of each head of each row
            mask = mask.reshape(-1, self.num_heads, *mask.shape[1:])
        if mask is not None and mask.dtype == torch.bool:
            mask = ~mask  # true is what is hidden
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=mask)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (output if self.batch_first else output.transpose(0, 1)), None

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if weight is not None and query is key and key is value:
            return F.linear(query, weight, bias).chunk(3, dim=-1)
        apart = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = apart if weight is None else weight.chunk(3)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        return tuple(F.linear(*each) for each in zip((query, key, value), weights, biases, strict=True))
