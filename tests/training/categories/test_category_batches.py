"""Batches whose texts are all categories, and the loss over them, against plain loops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.category_config import CategoriesConfig
from model.network import build_network
from tests.training.categories.conftest import category_config
from tests.training.conftest import TINY, picture, write_shard
from training.categories.nouns import NounFinder
from training.config import Objective as ObjectiveConfig
from training.config import load_config
from training.data.collate import Batch
from training.data.dataset import TrainingSet
from training.data.sample import Annotation
from training.objectives import build_objective, objective
from training.objectives.objective import ALL, LocalRows
from training.run_categories import RunCategories, choose_categories


def opened(folder: Path, **changes: Any) -> tuple[TrainingSet, RunCategories]:
    config = load_config(category_config(folder, **changes))
    chosen = choose_categories(config, folder)
    assert chosen is not None
    return TrainingSet(config.data, folder, config.seed, categories=chosen.of_samples), chosen


def sets_of(batch: Batch) -> list[set[str]]:
    return [{batch.texts[t] for t in row.nonzero().flatten()} for row in batch.positive]


def plain_set(finder: NounFinder, annotation: Annotation, chosen: RunCategories) -> set[str]:
    nouns = [noun for caption in annotation.captions for noun in finder.nouns(caption)]
    nouns += [noun for tag in annotation.tags for noun in finder.nouns(tag, phrase=True)]
    said = {noun.synset.name for noun in nouns}
    return {each.names[0] for each in chosen.vocabulary.categories if each.synset in said}


def test_every_batch_has_all_categories_and_each_picture_its_own(animals: Path, finder: NounFinder) -> None:
    data, chosen = opened(animals, objective={"kind": "categories", "categories": {"min_count": 1}})
    for step in range(3):
        batch = data.batch(step, 16)
        assert batch.texts == [each.names[0] for each in chosen.vocabulary.categories]
        assert not batch.ignored.any()
        assert batch.present.all()
        index = data._indexes[0]
        annotations = [index.annotation(int(data._numbers[item])) for item in batch.items]
        assert sets_of(batch) == [plain_set(finder, each, chosen) for each in annotations]
        assert all(batch.positive[row, drawn] for row, drawn in enumerate(batch.drawn))
        for masks, turned in ((batch.column_masks(slice(2, 5)), batch.row_masks(slice(None))),):
            assert torch.equal(masks.positive, turned.positive.T[2:5])
    data.close()


def test_pictures_without_a_category_take_no_part_and_are_counted(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = opened(animals)
    assert len(data) + len(data.holdout) == 80
    assert data.skip_counts == {"no category": 4}
    said = " ".join(capsys.readouterr().err.split())
    assert "4 of 84 pictures have none of the 9 categories and take no part, such as train-0.tar/0080" in said
    data.close()


def test_batches_are_a_function_of_seed_and_step_wherever_pictures_lie(animals: Path) -> None:
    def batches(**changes: Any) -> list[tuple[list[int], list[set[str]]]]:
        data, _ = opened(animals, **changes)
        drawn = [data.batch(step, 16) for step in (5, 0, 5)]
        data.close()
        return [([int(data._numbers[item]) for item in batch.items], sets_of(batch)) for batch in drawn]

    source = {"train": [{"shards": ["train-*.tar"]}], "holdout": 0.2, "store_pixels": 48}
    memory = batches(data=source)
    assert memory[0] == memory[2] != memory[1]
    assert batches(data={**source, "pictures": "disk"}) == memory
    assert batches(data=source, seed=7) != memory


def test_without_resampling_every_picture_with_a_category_is_drawn_once(animals: Path) -> None:
    source = {"shards": ["train-*.tar"], "resample": False}
    data, _ = opened(animals, data={"train": [source], "holdout": 0, "store_pixels": 48})
    items = np.concatenate([data.batch(step, 16).items for step in range(5)])
    assert sorted(items) == list(range(80))
    data.close()


def test_a_broken_picture_keeps_the_categories_of_the_others_in_their_places(
    tmp_path: Path, finder: NounFinder
) -> None:
    members = {}
    for number, noun in enumerate(["dog", "cat", "fox", "bear"] * 4):
        members[f"{number:02d}.png"] = b"broken" if number == 5 else picture("red", number)
        members[f"{number:02d}.txt"] = f"a {noun}".encode()
    write_shard(tmp_path / "train-0.tar", members)
    source = {"train": [{"shards": ["train-*.tar"], "resample": False}], "holdout": 0, "store_pixels": 48}
    rule = {"kind": "categories", "categories": {"min_count": 3}}
    for pictures in ("memory", "disk"):
        data, _ = opened(tmp_path, data={**source, "pictures": pictures}, objective=rule)
        batch = data.batch(0, len(data))
        said = [data._indexes[0].annotation(int(data._numbers[item])).captions[0] for item in batch.items]
        assert sets_of(batch) == [{text.removeprefix("a ")} for text in said]
        data.close()


def test_a_category_of_one_medium_is_no_negative_in_another(tmp_path: Path, finder: NounFinder) -> None:
    for name, nouns in (("photo", ["dog", "cat"]), ("drawing", ["dog", "dragon"])):
        members = {}
        for number in range(12):
            members[f"{number:02d}.png"] = picture("red", number)
            members[f"{number:02d}.json"] = json.dumps({"captions": [f"a {nouns[number % 2]}"]}).encode()
        write_shard(tmp_path / f"{name}.tar", members)
    sources = [{"shards": [f"{name}.tar"], "medium": name} for name in ("photo", "drawing")]
    data, _ = opened(tmp_path, data={"train": sources, "holdout": 0, "store_pixels": 48})
    batch = data.batch(0, 32)
    cat, dragon = batch.texts.index("cat"), batch.texts.index("dragon")
    for row, item in enumerate(batch.items):
        drawing = bool(data._sources[item])
        assert bool(batch.ignored[row, cat]) == drawing
        assert bool(batch.ignored[row, dragon]) == (not drawing)
    data.close()


def plain_loss(image: Tensor, rows: Tensor, scale: Tensor, bias: Tensor, batch: Batch, images: range) -> Tensor:
    """Binary cross-entropy by its definition, summed over categories; the images' share of the mean over all."""
    total = torch.zeros(())
    for i in images:
        if not batch.present[i]:
            continue
        for c in range(len(rows)):
            probability = 1 / (1 + torch.exp(-(scale * (image[i] * rows[c]).sum() + bias)))
            total = total - torch.log(probability if batch.positive[i, c] else 1 - probability)
    return total / int(batch.present.sum())


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("part", [ALL, LocalRows(slice(3, 11), slice(2, 4))])
def test_the_loss_and_its_gradients_are_those_of_plain_loops(
    animals: Path, monkeypatch: pytest.MonkeyPatch, part: LocalRows, chunked: bool
) -> None:
    data, chosen = opened(animals, objective={"kind": "categories", "categories": {"min_count": 1}})
    batch = data.batch(0, 16).without(torch.arange(16) == 4)
    data.close()
    count = len(chosen.vocabulary)
    config = TINY.model_copy(update={"text": CategoriesConfig(categories=count), "text_activation": None})
    network = build_network(config).double()
    assert network.logit_bias is not None
    with torch.no_grad():
        network.logit_scale.fill_(math.log(4))
        network.logit_bias.fill_(-1.5)
    torch.manual_seed(1)
    image = F.normalize(torch.randn(16, 32, dtype=torch.float64), dim=-1).requires_grad_()
    rows = F.normalize(torch.randn(count, 32, dtype=torch.float64), dim=-1).requires_grad_()
    learned = [image, rows, network.logit_scale, network.logit_bias]
    plain = plain_loss(image, rows, network.logit_scale.exp(), network.logit_bias, batch, range(16)[part.images])
    expected = torch.autograd.grad(plain, learned)
    if chunked:
        monkeypatch.setattr(objective, "MAX_SIMILARITIES", 3 * count)
    categories = build_objective(ObjectiveConfig(kind="categories"))
    loss = categories.loss((image, rows), network, batch, part, 0.5)
    torch.testing.assert_close(loss, plain)
    for ours, theirs in zip(torch.autograd.grad(loss, learned), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    losses = categories.image_losses((image, rows), network, batch)
    alone = plain_loss(image, rows, network.logit_scale.exp(), network.logit_bias, batch, range(7, 8))
    torch.testing.assert_close(losses[7] / int(batch.present.sum()), alone)
