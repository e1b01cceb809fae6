"""What a batch is of: drawn in columns and in sparse pairs, it is what is drawn image by image."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.training.conftest import picture, write_shard
from tests.training.plain_batches import PlainBatches
from training.config import Data, Objective
from training.data import collate
from training.data.collate import Batch
from training.data.dataset import TrainingSet
from training.objectives import build_objective
from training.objectives.contrastive import contrastive_loss
from training.objectives.objective import LocalRows
from training.objectives.sigmoid import sigmoid_loss

WORDS = ("red", "Red", "dog", "Dog", "a dog", "straße", "İstanbul", "\u00c9", "tree", "old tree", "sky", "\ud83d\ude00")


def annotation(rng: random.Random) -> dict[str, Any]:
    """Texts of every kind, or of some, whose words turn up again and again in other kinds and in other cases."""
    told: dict[str, Any] = {}
    if rng.random() < 0.6:
        told["label"] = rng.choice(WORDS[:7])
    if rng.random() < 0.4:
        told["coarse"] = rng.choice(WORDS)
    if rng.random() < 0.4:
        told["tags"] = rng.choices(WORDS, k=rng.randint(1, 6))
    if rng.random() < 0.5 or not told:
        told["captions"] = [" ".join(rng.choices(WORDS, k=rng.randint(1, 2))) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.3:
        told["description"] = "It is red. Is it a dog? It is old! So it is"
    return told


def mixed(folder: Path, several: bool) -> Data:
    """Images of two media in three sources, some transparent, or of one."""
    rng = random.Random(1)
    for shard in range(3):
        members = {}
        for number in range(50):
            members[f"{number}.png"] = picture("red", number, (8, 8)) if number % 3 else clear()
            members[f"{number}.json"] = json.dumps(annotation(rng)).encode()
        write_shard(folder / f"train-{shard}.tar", members)
    synonyms = {"Red": ["crimson", "scarlet", "red"], "dog": ["hound", "scarlet"], "istanbul": [], "tree": ["Oak"]}
    (folder / "synonyms.json").write_text(json.dumps(synonyms))
    sources: list[dict[str, Any]] = [{"shards": ["train-*.tar"]}]
    if several:
        sources = [
            {"shards": ["train-0.tar"], "medium": "photograph", "all_labels": True, "weight": 2},
            {"shards": ["train-1.tar"], "medium": "drawing", "all_labels": True, "class_power": 0.2},
            {"shards": ["train-2.tar"], "medium": "drawing", "resample": False},
        ]
    given: dict[str, Any] = {"train": sources, "holdout": 0.1, "store_pixels": 32, "max_long_text": 0.2}
    return Data.model_validate({**given, "synonyms": "synonyms.json"})


def clear() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")
    return out.getvalue()


def digest(batch: Batch) -> str:
    """Of all that a batch says."""
    parts = [batch.items.tolist(), batch.texts, batch.drawn.tolist(), batch.counts.tolist()]
    hashed = hashlib.sha256(json.dumps(parts).encode())
    for mask in (batch.positive, batch.ignored):
        hashed.update(mask.numpy().tobytes())
    return hashed.hexdigest()[:16]


# What was drawn before batches were drawn in columns: a run that began then goes on with the same batches.
DRAWN = {
    True: ["3f19d27ff3b6ad73", "c84cd2d2132b2a11", "b8ea143c07a51460"],
    False: ["e654e7eed97f7da0", "609058531d0aa37c", "230f398bf0c8b718"],
}


@pytest.mark.parametrize("several", [True, False])
def test_batches_are_those_that_were_always_drawn(tmp_path: Path, several: bool) -> None:
    training_set = TrainingSet(mixed(tmp_path, several), tmp_path, seed=5)
    assert [digest(training_set.batch(step, 40)) for step in range(3)] == DRAWN[several]


@pytest.mark.parametrize("several", [True, False])
def test_a_batch_is_what_is_drawn_image_by_image(tmp_path: Path, several: bool) -> None:
    data = mixed(tmp_path, several)
    training_set = TrainingSet(data, tmp_path, seed=3)
    plain = PlainBatches(data, tmp_path, training_set)
    for step in range(12):
        batch, expected = training_set.batch(step, 60), plain.batch(step, 60)
        assert batch.items.tolist() == expected.items
        assert batch.texts == expected.texts
        assert batch.drawn.tolist() == expected.drawn
        assert batch.counts.tolist() == expected.counts
        assert torch.equal(batch.positive, torch.from_numpy(expected.positive))
        assert torch.equal(batch.ignored, torch.from_numpy(expected.ignored))
        assert len(batch.texts) > 20
        assert expected.ignored.any()
        assert expected.positive.sum() > 60


@pytest.mark.parametrize("several", [True, False])
def test_masks_of_some_rows_and_columns_are_those_of_the_whole_batch(tmp_path: Path, several: bool) -> None:
    data = mixed(tmp_path, several)
    training_set = TrainingSet(data, tmp_path, seed=3)
    batch, plain = training_set.batch(4, 60), PlainBatches(data, tmp_path, training_set).batch(4, 60)
    missing = torch.arange(60) % 7 == 3
    parts = [slice(0, 0), slice(0, 20), slice(20, 23), slice(23, None)]
    for shown, absent in ((batch, torch.zeros(60, dtype=torch.bool)), (batch.without(missing), missing)):
        positive = torch.from_numpy(plain.positive) & ~absent.unsqueeze(1)
        ignored = (torch.from_numpy(plain.ignored) | absent.unsqueeze(1)) & ~positive
        for part in parts:
            for found, expected in zip(shown.row_masks(part), (positive[part], ignored[part]), strict=True):
                assert torch.equal(found, expected)
            for found, expected in zip(shown.column_masks(part), (positive.T[part], ignored.T[part]), strict=True):
                assert torch.equal(found, expected)
        assert torch.equal(shown.present, positive.any(dim=1))
        assert torch.equal(shown.counts > 0, (shown.counts * positive.any(dim=0)) > 0)


def test_a_batch_is_the_same_from_an_index_that_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(tmp_path / "cache"))
    data = mixed(tmp_path, several=True).model_copy(update={"pictures": "disk"})
    found = []
    for _ in range(2):
        training_set = TrainingSet(data, tmp_path, seed=5)
        found.append([digest(training_set.batch(step, 40)) for step in range(3)])
    assert len(list(tmp_path.glob("cache/indexes/*/phrases"))) == 3
    assert found == [DRAWN[True]] * 2


def test_a_batch_of_many_images_keeps_no_mask_of_all_its_pairs(tmp_path: Path) -> None:
    training_set = TrainingSet(mixed(tmp_path, several=True), tmp_path, seed=5)
    tracemalloc.start()
    batch = training_set.batch(0, 4096)
    positive, _ = batch.row_masks(slice(0, 64))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(batch.items) * len(batch.texts)  # bytes, of which one would be a pair
    assert positive.shape == (64, len(batch.texts))


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid"])
def test_losses_ask_for_no_mask_of_all_pairs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = TrainingSet(mixed(tmp_path, several=True), tmp_path, seed=5).batch(2, 60)
    batch = batch.without(torch.arange(60) % 9 == 0)
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (60, len(batch.texts)))
    local = LocalRows(slice(7, 30), slice(3, 20))
    network = SimpleNamespace(logit_scale=torch.tensor(9.0).log(), logit_bias=torch.tensor(-3.0))
    arguments, masks = (image, text, network.logit_scale.exp()), (batch.positive, batch.ignored)
    if kind == "contrastive":
        expected = contrastive_loss(*arguments, *masks, batch.counts, local)
    else:
        expected = sigmoid_loss(*arguments, network.logit_bias, *masks, local)
    made: list[int] = []
    scatter = collate._mask
    monkeypatch.setattr(collate, "_mask", lambda places, shape, on: made.append(shape[0]) or scatter(places, shape, on))
    assert torch.equal(build_objective(Objective(kind=kind)).loss((image, text), network, batch, local, 0.0), expected)
    assert made == [23, 23] + [17, 17] * (kind == "contrastive")
