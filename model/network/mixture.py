"""Llip: the vectors of a picture are mixed for each text that it is compared with (Lavoie et al. 2024).

"Modeling Caption Diversity in Contrastive Vision-Language Pretraining", arXiv 2405.00740.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import MixtureConfig

SMALLEST_SQUARE = 1e-12  # of a mixed vector's length: below it its direction is rounding


class Mixture(nn.Module):
    """Cross-attention whose query is a text's vector, whose keys and values are those of a picture.

    With h_k a picture's vectors and t a text's, all of unit length, and each head m having its own columns of W_Q, W_K
    and W_V and its own rows of W_O: a_m = softmax over k of dim (t W_Q)·(h_k W_K) / temperature, the mixed vector is
    z = sum over m and k of a_mk (h_k W_V) W_O, and the similarity is the cosine of z and t.

    No biases, and where the paper is silent: `dim` gives vectors of unit length back the length √dim that the norm of a
    tower's end leaves them, which the paper's temperature is for; W_V and W_O begin as the identity, so that a picture
    is compared by means of its own vectors at first.
    """

    def __init__(self, config: MixtureConfig, embed_dim: int) -> None:
        super().__init__()
        self.tokens, self.heads, self.scale = config.tokens, config.heads, embed_dim / config.temperature
        std = embed_dim**-0.5
        self.query = nn.Parameter(std * torch.randn(embed_dim, embed_dim))
        self.key = nn.Parameter(std * torch.randn(embed_dim, embed_dim))
        self.value = nn.Parameter(torch.eye(embed_dim))
        self.output = nn.Parameter(torch.eye(embed_dim))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Vectors of images [images, tokens, dim] and of texts [texts, dim], of unit length -> cosines [images, texts].

        In memory that grows with their product: `mixture_tiles` says how many may be given at once.
        """
        return self.compare(images, *self.ask(texts))

    def ask(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Of each head what texts [texts, dim] look for, and what they are compared with: [heads, texts, dim / heads].

        They are the same for all images.
        """
        return self._split(texts @ self.query), self._split(texts @ self.output.T)

    def compare(self, images: Tensor, queries: Tensor, targets: Tensor) -> Tensor:
        """Images [images, tokens, dim] and what texts `ask` -> cosines [images, texts].

        No mixed vector is made: its product with the text, and its length, follow from the weights [images, texts,
        heads x tokens] and from what each token adds in each head, of which a picture has few.
        """
        keys, values = self._split(images @ self.key), self._split(images @ self.value)  # [images, heads, tokens, ...]
        weights = (self.scale * queries @ keys.mT).softmax(dim=-1)
        products = (weights * (targets @ values.mT)).sum(dim=(1, 3))
        added = (values @ self.output.view(self.heads, -1, self.output.shape[1])).flatten(1, 2)
        weights = weights.transpose(1, 2).flatten(2)
        squares = (weights @ (added @ added.mT) * weights).sum(dim=-1)
        cosines: Tensor = products * squares.clamp(min=SMALLEST_SQUARE).rsqrt()
        return cosines

    def _split(self, x: Tensor) -> Tensor:
        """[..., rows, dim] -> [..., heads, rows, dim / heads]."""
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(-3, -2)
