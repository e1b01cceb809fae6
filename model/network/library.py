"""A network that another library defines, behind the interface of ours. It can be exported, not trained."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.library_config import LibraryConfig


class LibraryNetwork(nn.Module):
    """Both towers in `model`, a module of that library, and the logit scale, as its logarithm."""

    model: Any  # an nn.Module, whose attributes are the library's
    logit_scale: Tensor
    logit_bias: Tensor | None  # of networks trained with the sigmoid loss only
    mixture: None = None  # one vector a picture

    def __init__(
        self, config: LibraryConfig, model: nn.Module, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config, self.model = config, model
        # Not among the parameters: they may be parameters of `model` already.
        self.register_buffer("logit_scale", logit_scale.detach().float().reshape(()), persistent=False)
        bias = None if logit_bias is None else logit_bias.detach().float().reshape(())
        self.register_buffer("logit_bias", bias, persistent=False)

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], of any length."""

    @abstractmethod
    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length <= context], filled up with `pad_id` -> [batch, embed_dim], of any length."""

    @torch.no_grad()
    def forward(self, pixels: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings, [images, embed_dim] and [texts, embed_dim], of unit length."""
        return F.normalize(self.encode_image(pixels), dim=-1), F.normalize(self.encode_text(token_ids), dim=-1)
