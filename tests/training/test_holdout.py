"""What chooses the checkpoint, whether or not the pictures have labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.config import load_preset
from model.network import CLIP
from model.tokenizers.clip import TextTokenizer
from tests.training.conftest import picture, write_config
from training.config import load_config
from training.data.sample import Annotation, Sample
from training.evaluation.holdout import Holdout
from training.initial_model import build_initial_model

Score = Callable[[list[tuple[int, Sample]]], tuple[float | None, dict[str, float]]]


@pytest.fixture
def scored(tmp_path: Path) -> Score:
    sources = [{"shards": ["a.tar"], "weight": 1}, {"shards": ["b.tar"], "weight": 3}]
    config = load_config(write_config(tmp_path, data={"train": sources, "max_pixels": 10_000}))
    initial = build_initial_model(config)
    torch.manual_seed(0)
    network = CLIP(load_preset("sightword-small"))
    tokenizer: TextTokenizer = initial.tokenizer

    def score(samples: list[tuple[int, Sample]]) -> tuple[float | None, dict[str, float]]:
        return Holdout(samples, initial.preprocessing, tokenizer, config).score(network)

    return score


def test_sources_without_labels_are_scored_by_their_captions(scored: Score) -> None:
    reds = [picture("red", number) for number in range(8)]
    same = [(1, Sample(f"{n}", red, Annotation(captions=["a red thing", f"{n}"]))) for n, red in enumerate(reds)]
    assert scored(same) == (1.0, {"source 1": 1.0})  # one caption for all
    distinct = [(0, Sample(f"{n}", red, Annotation(captions=[f"number {n}"]))) for n, red in enumerate(reds)]
    total, by_source = scored([*distinct, *same])
    assert by_source["source 0"] < 1  # eight pictures that look alike
    assert total == pytest.approx((by_source["source 0"] + 3) / 4)


def test_labels_come_before_captions_and_what_is_broken_or_too_large_is_left_out(scored: Score) -> None:
    samples = [
        (0, Sample("labelled", picture("red", 0), Annotation(label="red", captions=["one"]))),
        (0, Sample("captioned", picture("blue", 0), Annotation(captions=["two"]))),
        (0, Sample("broken", b"no picture", Annotation(label="blue"))),
        (0, Sample("large", picture("blue", 0, (200, 200)), Annotation(label="blue"))),
    ]
    assert scored(samples) == (1.0, {"source 0": 1.0})
    assert scored([]) == (None, {})
