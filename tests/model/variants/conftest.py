"""Bundles of random weights in fp32, to make variants of, and one variant of each kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.bundle import Bundle, write_manifest
from model.config import ModelConfig, Preprocessing
from model.export.bundle import export_bundle
from model.manifest import WEIGHTS
from model.network import CLIP
from model.tokenizers.clip import Tokenizer
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.model.conftest import TINY_RESNET, TINY_VIT, random_network

Make = Callable[[Bundle, VariantOptions], Bundle]


def export(network: CLIP, folder: Path) -> Bundle:
    config: ModelConfig = network.config
    tokenizer = Tokenizer.clip(config.text.vocab_size, config.text.context_length)
    return export_bundle(
        network, folder, tokenizer=tokenizer, preprocessing=Preprocessing(size=config.image.image_size)
    )


def with_weights(source: Bundle, folder: Path, change: Callable[[dict[str, Tensor]], None]) -> Bundle:
    """The bundle with other values in its tensors: the graphs point at the same places."""
    shutil.copytree(source.path, folder)
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    return write_manifest(folder, source.manifest.model_dump(mode="json", exclude={"files"}))


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(random_network(TINY_VIT), tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(random_network(TINY_RESNET), tmp_path_factory.mktemp("resnet"))


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a variant, of each kind once."""
    made: dict[tuple[str, VariantOptions], Bundle] = {}

    def variant(source: Bundle, options: VariantOptions) -> Bundle:
        key = (source.digest, options)
        if key not in made:
            to = tmp_path_factory.mktemp("variants") / "variant"
            made[key] = make_variant(source, to, options, lambda step: None)
        return made[key]

    return variant
