"""SigLIP: an image tower and a text tower trained pair by pair with a sigmoid (Zhai et al. 2023, arXiv 2303.15343)."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Activation, ModelConfig, SiglipTextConfig, SiglipViTConfig
from model.network.transformer import Attention, LayerNorm, Stack, Transformer, activation_module, gather_tokens
from model.network.vit import resize_grid

INITIAL_LOGIT_SCALE = math.log(10)
INITIAL_LOGIT_BIAS = -10.0


class AttentionPool(nn.Module):
    """One learned query attends to all patches; a perceptron refines what it gathers."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        width, hidden = stack.width, stack.mlp_width or 4 * stack.width
        self.query = nn.Parameter(width**-0.5 * torch.randn(1, width))
        self.attn = Attention(width, stack.heads)
        self.ln_2 = LayerNorm(width, eps=stack.norm_eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden),
                gelu=activation_module(stack.activation),
                c_proj=nn.Linear(hidden, width),
            )
        )
        nn.init.xavier_uniform_(self.attn.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> [batch, width]."""
        pooled = self._attend(x)
        output: Tensor = pooled + self.mlp(self.ln_2(pooled))
        return output

    def _attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads, attn = self.attn.heads, self.attn
        query = F.linear(self.query, attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        projected = F.linear(x, attn.in_proj_weight[width:], attn.in_proj_bias[width:])
        split = projected.view(batch, tokens, 2, heads, width // heads).permute(2, 0, 3, 1, 4)
        key, value = split.unbind(0)  # each [batch, heads, tokens, head width]
        asked = query.view(1, heads, 1, width // heads).expand(batch, -1, -1, -1)
        mixed = F.scaled_dot_product_attention(asked, key, value)
        gathered: Tensor = attn.out_proj(mixed.reshape(batch, width))
        return gathered


class SiglipVisionTransformer(nn.Module):
    """Patches without a class token, `layers` blocks, and a pool whose output is the embedding."""

    def __init__(self, config: SiglipViTConfig, activation: Activation) -> None:
        super().__init__()
        width, stack = config.width, Stack.of(config, activation)
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(config.grid**2, width))
        self.transformer = Transformer(stack)
        self.ln_post = LayerNorm(width, eps=config.norm_eps)
        self.pool = AttentionPool(stack)

    def forward(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, width], not yet of unit length.

        Pixels beyond the last whole patch are not looked at, nor are patches that are not in `kept` [batch, kept].
        """
        return self.encode_patches(self.conv1(pixels).flatten(2).transpose(1, 2), kept)

    def encode_patches(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Embedded patches [batch, grid², width], row by row, of any grid -> [batch, width]."""
        positions = resize_grid(self.positional_embedding, math.isqrt(patches.shape[1]))
        x = patches + positions.to(patches.dtype)
        x = self.transformer(x if kept is None else gather_tokens(x, kept))
        pooled: Tensor = self.pool(self.ln_post(x))
        return pooled


class SigLIP(nn.Module):
    """Both towers, the learned logit scale and the learned bias; parameter names follow those of `CLIP`."""

    mixture: None = None  # its image tower has one vector a picture

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        text = config.text
        assert isinstance(config.image, SiglipViTConfig)
        assert isinstance(text, SiglipTextConfig)
        self.config = config
        self.visual = SiglipVisionTransformer(config.image, config.activation)
        self.transformer = Transformer(Stack.of(text, config.text_activation or config.activation))
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.ln_final = LayerNorm(text.width, eps=text.norm_eps)
        self.text_projection = nn.Linear(text.width, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)

    def encode_image(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], not of unit length.

        With patch dropout, `kept` [batch, kept] are the patches that are looked at.
        """
        encoded: Tensor = self.visual(pixels, kept)
        return encoded

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, context], padded -> [batch, embed_dim], not of unit length.

        The output at the last position, mostly padding that has read the whole text, stands for it.
        """
        x = self.token_embedding(token_ids)
        pooled = self.transformer(x + self.positional_embedding.to(x.dtype), at=token_ids.shape[1] - 1)
        encoded: Tensor = self.text_projection(self.ln_final(pooled))
        return encoded

    def forward(self, pixels: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings, [images, embed_dim] and [texts, embed_dim], of unit length, in float32."""
        image = F.normalize(self.encode_image(pixels).float(), dim=-1)
        text = F.normalize(self.encode_text(token_ids).float(), dim=-1)
        return image, text

    def cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """How alike embeddings of images and texts, as `forward` gives them, are: [images, texts]."""
        return images @ texts.T

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale at 1 or above; the sigmoid loss needs no upper bound, and released models exceed 100."""
        self.logit_scale.clamp_(min=0)
