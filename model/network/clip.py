"""CLIP: an image tower and a text tower trained to agree (Radford et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig, ResNetConfig, TextConfig, ViTConfig
from model.network.mixture import Mixture
from model.network.resnet import ModifiedResNet
from model.network.transformer import LayerNorm, Stack, Transformer
from model.network.vit import VisionTransformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)


class CLIP(nn.Module):
    """Both towers and the learned logit scale; parameter names are those of the original release.

    A text tower of another kind than CLIP's is in `text`; CLIP's own is spread over the attributes, as in the original.
    """

    logit_bias: Tensor | None  # of networks trained with the sigmoid loss only
    text: nn.Module | None

    def __init__(self, config: ModelConfig, text: nn.Module | None = None) -> None:
        """`text` takes the place of CLIP's own text tower: token ids [batch, length] -> [batch, embed_dim]."""
        super().__init__()
        assert isinstance(config.image, ViTConfig | ResNetConfig)
        self.config = config
        tokens = config.mixture.tokens if config.mixture else None
        self.visual: VisionTransformer | ModifiedResNet = (
            VisionTransformer(config.image, config.embed_dim, config.activation, tokens)
            if isinstance(config.image, ViTConfig)
            else ModifiedResNet(config.image, config.embed_dim)
        )
        self.text = text
        if text is None:
            self._add_text_tower(config)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.register_parameter("logit_bias", None)
        self.mixture = Mixture(config.mixture, config.embed_dim) if config.mixture else None

    def _add_text_tower(self, config: ModelConfig) -> None:
        text = config.text
        assert isinstance(text, TextConfig)
        self.transformer = Transformer(Stack.of(text, config.text_activation or config.activation))
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.ln_final = LayerNorm(text.width, eps=text.norm_eps)
        self.text_projection = nn.Parameter(torch.empty(text.width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=text.width**-0.5)

    def encode_image(self, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], not of unit length.

        It is [batch, tokens, embed_dim] of a network with a mixture. With patch dropout, `kept` [batch, kept] are the
        patches of a vision transformer that are looked at.
        """
        encoded: Tensor = self.visual(pixels) if kept is None else self.visual(pixels, kept)
        return encoded

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length <= context] -> [batch, embed_dim], not of unit length.

        The output at the end-of-text token, which has the largest id, stands for the whole text; with the
        causal mask nothing after it matters, so trimming the padding changes nothing. A tower in `text` is its own.
        """
        if self.text is not None:
            vector: Tensor = self.text(token_ids)
            return vector
        x = self.token_embedding(token_ids)
        x = x + self.positional_embedding[: token_ids.shape[1]].to(x.dtype)
        # Of int64, onnxruntime's CUDA provider has a maximum but no argmax. Of ids in float there is one, but providers
        # that round what they compute to half would take the ids for one another; 0 and 1 they do not.
        is_end = token_ids == token_ids.amax(dim=-1, keepdim=True)
        pooled = self.transformer(x, causal=True, at=is_end.float().argmax(dim=-1))
        encoded: Tensor = self.ln_final(pooled) @ self.text_projection
        return encoded

    def forward(self, pixels: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings, [images, embed_dim] and [texts, embed_dim], of unit length, in float32.

        With a mixture, those of images are [images, tokens, embed_dim].
        """
        image = F.normalize(self.encode_image(pixels).float(), dim=-1)
        text = F.normalize(self.encode_text(token_ids).float(), dim=-1)
        return image, text

    def add_mixture(self, config: ModelConfig) -> None:
        """Give a network of one vector a picture several, to be mixed for each text, as `config` says, else the same.

        Each new token begins as the class token, but for a little: what was learned is nearly what is said at first.
        """
        assert config.mixture is not None
        assert isinstance(self.visual, VisionTransformer)
        self.config = config
        self.visual.add_tokens(config.mixture.tokens)
        self.mixture = Mixture(config.mixture, config.embed_dim)

    def cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """How alike embeddings of images and texts, as `forward` gives them, are: [images, texts]."""
        cosines: Tensor = images @ texts.T if self.mixture is None else self.mixture(images, texts)
        return cosines

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale within [1, 100], as the paper does after each step."""
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
