"""The vision transformer tower, and its position embeddings for images of another size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Activation, ViTConfig
from model.network.transformer import LayerNorm, Stack, Transformer, gather_tokens


class VisionTransformer(nn.Module):
    """Patches, a class token, `layers` blocks; the class token's output is projected to `embed_dim`.

    With `tokens` above 1, as many outputs are: those of the class token and of learned mixture tokens after it (Llip).
    They have no position, as registers have none (Darcet et al. 2023): a token that is learned needs none.
    """

    mixture_tokens: nn.Parameter | None

    def __init__(self, config: ViTConfig, embed_dim: int, activation: Activation, tokens: int | None = None) -> None:
        """`tokens` None: one output a picture, and no dimension for it."""
        super().__init__()
        width = config.width
        grid = config.image_size // config.patch_size
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(grid**2 + 1, width))
        self.ln_pre = LayerNorm(width, eps=config.norm_eps)
        self.transformer = Transformer(Stack.of(config, activation))
        self.ln_post = LayerNorm(width, eps=config.norm_eps)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))
        self._set_tokens(tokens, scale * torch.randn(tokens - 1, width) if tokens else None)

    @torch.no_grad()
    def add_tokens(self, tokens: int) -> None:
        """Have `tokens` outputs instead of one; new ones begin as the class token and its position, and a little."""
        token = self.class_embedding + self.positional_embedding[0]
        self._set_tokens(tokens, token + 0.1 * token.std() * torch.randn(tokens - 1, len(token)))

    def _set_tokens(self, tokens: int | None, mixture: Tensor | None) -> None:
        self.tokens = tokens
        parameter = nn.Parameter(mixture) if mixture is not None and len(mixture) else None
        self.register_parameter("mixture_tokens", parameter)

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], not yet of unit length.

        With mixture tokens it is [batch, tokens, embed_dim].

        Of each picture only the patches in `kept` [batch, kept] are looked at: patch dropout (Li et al. 2023, FLIP).
        """
        return self.encode_patches(self.conv1(pixels).flatten(2).transpose(1, 2), kept)

    def encode_patches(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Embedded patches [batch, grid², width], row by row -> [batch, embed_dim], or [batch, tokens, embed_dim]."""
        class_token = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        positions = resize_positions(self.positional_embedding, math.isqrt(patches.shape[1]))
        x = torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)
        if kept is not None:
            x = torch.cat([x[:, :1], gather_tokens(x[:, 1:], kept)], dim=1)
        if self.mixture_tokens is not None:
            mixture = self.mixture_tokens.to(x.dtype).expand(x.shape[0], -1, -1)
            x = torch.cat([x[:, :1], mixture, x[:, 1:]], dim=1)
        at = 0 if self.tokens is None else slice(0, self.tokens)
        pooled: Tensor = self.ln_post(self.transformer(self.ln_pre(x), at=at)) @ self.proj
        return pooled


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize [1 + old_grid², width] to [1 + grid², width]; the first row, class token or mean, is kept.

    Returns the argument where the grid is the same.
    """
    patches = resize_grid(positions[1:], grid)
    return positions if len(patches) == len(positions) - 1 else torch.cat([positions[:1], patches])


def resize_grid(positions: Tensor, grid: int) -> Tensor:
    """Resize [old_grid², width], row by row, to [grid², width]: bicubic with anti-aliasing, as open_clip does."""
    old_grid = math.isqrt(positions.shape[0])
    if old_grid == grid:
        return positions
    plane = positions.float().reshape(1, old_grid, old_grid, -1).permute(0, 3, 1, 2)
    plane = F.interpolate(plane, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return plane.permute(0, 2, 3, 1).reshape(grid * grid, -1).to(positions.dtype)
