"""Pictures of four colours whose captions name things: each colour is a thing of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.category_config import CategoriesConfig
from model.config import Preprocessing
from model.export.bundle import export_bundle
from model.network import build_network
from tests.training.conftest import COLOURS, TINY, further, picture, write_config, write_shard
from training.categories.nouns import NounFinder
from training.categories.wordnet import WORDNET, WordNet, open_wordnet
from training.config import load_config
from training.run_categories import choose_categories

SAID = {
    "red": "a dog in the snow",
    "green": "two frogs beside a pond",
    "blue": "penguins swim in the sea",
    "yellow": "a bowl of lemons",
}


@pytest.fixture(scope="session")
def wordnet() -> WordNet:
    if not (WORDNET / "data.noun").exists():
        pytest.skip("WordNet's data files are not here: apt-get install wordnet-base")
    return open_wordnet()


@pytest.fixture(scope="session")
def finder(wordnet: WordNet) -> NounFinder:
    return NounFinder(wordnet)


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory, wordnet: WordNet) -> Path:
    """A folder with train-0.tar: 80 captioned pictures, and 4 of which nothing is said that is a noun."""
    folder = tmp_path_factory.mktemp("animals")
    members = {}
    for i in range(84):
        colour = list(COLOURS)[i % len(COLOURS)]
        said = {"captions": [SAID[colour]], "tags": ["animal"] if i % 3 == 0 else []}
        members[f"{i:04d}.png"] = picture(colour, i)
        members[f"{i:04d}.json"] = json.dumps(said if i < 80 else {"captions": ["so very beautiful"]}).encode()
    write_shard(folder / "train-0.tar", members)
    return folder


def category_config(folder: Path, **changes: Any) -> Path:
    """A run of four steps on a small vision transformer that learns categories."""
    return write_config(folder, **category_run(**changes))


def category_run(**changes: Any) -> dict[str, Any]:
    train = [{"shards": ["train-*.tar"]}]
    data = {"train": train, "holdout": 0.2, "store_pixels": 48}
    tiny = {"model": "sightword-small", "start": None, "data": data, "objective": {"kind": "categories"}}
    settings = {**further(Path()), **tiny, "stages": [{"start": 0, "pixels": 64}]}
    return settings | changes


@pytest.fixture(scope="session")
def animal_bundle(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small vision transformer with random weights over the categories of `animals`."""
    config = load_config(category_config(animals))
    chosen = choose_categories(config, animals)
    assert chosen is not None
    torch.manual_seed(0)
    towers = {"text": CategoriesConfig(categories=len(chosen.vocabulary)), "text_activation": None}
    folder = tmp_path_factory.mktemp("animal-bundle")
    export_bundle(
        build_network(TINY.model_copy(update=towers)).eval(),
        folder,
        tokenizer=chosen.vocabulary.tokenizer(),
        preprocessing=Preprocessing(size=32),
        weights_dtype="float32",
        bundle_id="animals",
        source={"kind": "test"},
    )
    return folder


def further_on_categories(bundle: Path, **changes: Any) -> dict[str, Any]:
    """A run of four steps that trains a bundle of categories further."""
    return category_run(model=None, start=str(bundle), stages=[{"start": 0, "pixels": 32}], **changes)
