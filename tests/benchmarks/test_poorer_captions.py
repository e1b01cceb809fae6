"""The corpus with poorer and better captions: both are sources of the same pictures, which have no labels."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import poorer_captions
from tests.training.conftest import picture, write_shard
from training.comparison.config import load_comparison
from training.config import Data, Source
from training.data.dataset import TrainingSet
from training.data.index import open_index
from training.settings import CONFIGS


def test_pictures_have_captions_of_both_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {}
    for number in range(60):
        record = {"label": f"kind number {number % 5}", "description": "It is long."} if number else {"captions": ["x"]}
        members[f"{number}.png"] = picture("red", number, (8, 8))
        members[f"{number}.json"] = json.dumps(record | {"licence": "CC0"}).encode()
    write_shard(tmp_path / "a.tar", members)
    for folder in ("one", "two"):
        arguments = ["poorer_captions", str(tmp_path / "a.tar"), "--to", str(tmp_path / folder)]
        monkeypatch.setattr(sys, "argv", arguments)
        poorer_captions.main()
    assert (tmp_path / "one/train-000000.tar").read_bytes() == (tmp_path / "two/train-000000.tar").read_bytes()
    index = open_index(Source(shards=["one/*.tar"]), tmp_path)
    assert len(index) == 59  # one has no label
    assert sorted(index.fields) == ["alt_text", "captions"]
    first = index.annotation(0)
    assert first.label is None
    assert first.captions[:3] == ["a photo of a kind number 1", "kind number 1", "kind number 1. It is long."]
    given = {"train": [{"shards": "one/*.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    drawn = {
        name: TrainingSet(Data.model_validate({**given, "captions": {"mix": {name: 1}}}), tmp_path, 0)
        .batch(0, 59)
        .texts
        for name in ("human", "alt")
    }
    assert all("kind number" in text for text in drawn["human"])
    assert any(text.endswith(".jpg") for text in drawn["alt"])
    assert any(text in poorer_captions.BOILERPLATE for text in drawn["alt"])


def test_the_comparison_of_it_is_one_that_can_be_run(tmp_path: Path) -> None:
    comparison = load_comparison(CONFIGS / "captions-compare.yaml", tmp_path)
    assert comparison.runs == ["better", "poorer", "half", "poorer-then-better", "poorer-filtered"]
    captions = {each.run: each.config.data.captions for each in comparison.trainings}
    assert captions["poorer"].mix == {"alt": (1, 1)}
    assert captions["poorer-then-better"].mix == {"human": (0, 1), "alt": (1, 0)}
    assert captions["poorer-filtered"].filters.max_pictures == 200
