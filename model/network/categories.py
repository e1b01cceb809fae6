"""The classifier of CatLIP as a text tower: one learned row a category (Mehta et al. 2024, arXiv 2404.15653).

The paper's is a linear layer with a bias for each class. Here rows are compared by their cosine, under one scale and
one bias for all of them as SigLIP has (Zhai et al. 2023): that is a CLIP whose texts are categories, and is exported,
cached and served exactly as one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.category_config import CategoriesConfig


class CategoryTable(nn.Module):
    """The row of a category is its vector; row 0 fills up batches and is never learned."""

    def __init__(self, config: CategoriesConfig, embed_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, embed_dim, padding_idx=config.pad_id)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)
        with torch.no_grad():
            self.embedding.weight[config.pad_id].zero_()

    def forward(self, token_ids: Tensor) -> Tensor:
        """Ids of categories [batch, 1] -> [batch, embed_dim], not of unit length."""
        rows: Tensor = self.embedding(token_ids[:, 0])
        return rows
