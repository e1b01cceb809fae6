"""A bundle whose texts are categories, of random weights, made in seconds: for tests of every package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from model.bundle import Bundle
from model.category_config import CategoriesConfig
from model.config import ModelConfig, Preprocessing, ViTConfig
from model.export.bundle import export_bundle
from model.network import Network, build_network
from model.tokenizers.categories import Category, CategoryTokenizer

CATEGORIES = (
    Category("dog.n.01", ("dog", "domestic dog", "Canis familiaris")),
    Category("cat.n.01", ("cat", "true cat")),
    Category("crane.n.04", ("crane", "lifting device")),
    Category("crane.n.05", ("crane", "wading bird")),
    Category("hot_dog.n.02", ("hot dog", "frankfurter bun")),
    Category("turkey.n.02", ("Turkey", "Republic of Turkey")),
    Category("turkey.n.01", ("turkey",)),
    Category("bank.n.01", ("bank", "side")),
    Category("depository.n.01", ("depository", "bank", "side")),
)
LABELS = (
    "dog", "cat", "crane (crane.n.04)", "crane (crane.n.05)", "hot dog",
    "Turkey (turkey.n.02)", "turkey (turkey.n.01)", "bank", "depository",
)  # fmt: skip


def category_config(categories: int, name: str = "tiny-categories") -> ModelConfig:
    return ModelConfig(
        name=name,
        embed_dim=32,
        activation="gelu",
        image=ViTConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2),
        text=CategoriesConfig(categories=categories),
    )


def category_network(categories: int, seed: int = 0) -> Network:
    """Random, with a scale and a bias that make scores differ."""
    torch.manual_seed(seed)
    network = build_network(category_config(categories))
    assert network.logit_bias is not None
    with torch.no_grad():
        network.logit_scale.fill_(2.0)
        network.logit_bias.fill_(-1.5)
    return network.eval()


def category_bundle(folder: Path, categories: Sequence[Category] = CATEGORIES) -> tuple[Network, Bundle]:
    network = category_network(len(categories))
    tokenizer = CategoryTokenizer(categories)
    return network, export_bundle(network, folder, tokenizer=tokenizer, preprocessing=Preprocessing(size=32))
