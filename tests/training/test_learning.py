"""The parts of the loop: loss, schedule, weight decay, batches, augmentation, shards, intervals."""

from __future__ import annotations

import json
import logging
import math
from fnmatch import fnmatch
from pathlib import Path

import bracex
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.config import load_preset
from model.network import CLIP
from tests.training.conftest import picture, write_config, write_shard
from tests.training.plain_batches import PlainBatches
from training.config import ConfigError, Optimizer, load_config
from training.data.augment import augment
from training.data.captions import load_synonyms
from training.data.collate import Batch, Media
from training.data.dataset import TrainingSet
from training.data.matches import match_drawn
from training.data.split import load_excluded
from training.data.variation import Block, draw_variation
from training.loop.optimizer import MovingAverage, build_optimizer, learning_rate
from training.objectives.contrastive import contrastive_loss
from training.objectives.sigmoid import sigmoid_loss
from training.settings import CONFIGS


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_is_the_papers_where_every_text_has_one_picture() -> None:
    image, text, scale = unit(6, 8), unit(6, 8, seed=1), torch.tensor(10.0)
    logits = scale * image @ text.T
    target = torch.arange(6)
    papers = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    ours = contrastive_loss(image, text, scale, torch.eye(6) > 0, torch.zeros(6, 6) > 0, torch.ones(6))
    torch.testing.assert_close(ours, papers)


def test_pictures_of_the_same_text_are_not_each_others_negatives() -> None:
    image = unit(3, 8)
    text = image[[0, 2]].clone()  # the first text is said of pictures 0 and 1, which look the same
    image[1] = image[0]
    positive = torch.tensor([[True, False], [True, False], [False, True]])
    none = torch.zeros_like(positive)
    loss = contrastive_loss(image, text, torch.tensor(100.0), positive, none, torch.tensor([2.0, 1.0]))
    assert loss.item() == pytest.approx(math.log(2) * 2 / 3 / 2, abs=1e-3)  # only the even split over two pictures


def test_ignored_pairs_have_no_gradient() -> None:
    image, text = unit(2, 4).requires_grad_(), unit(2, 4, seed=1).requires_grad_()
    ignored = torch.tensor([[False, True], [True, False]])
    contrastive_loss(image, text, torch.tensor(10.0), torch.eye(2) > 0, ignored, torch.ones(2)).backward()
    assert image.grad is not None
    assert image.grad.abs().max() < 1e-6


def test_pictures_that_are_missing_change_nothing_for_the_others() -> None:
    image, text, scale, bias = unit(4, 8), unit(3, 8, seed=1), torch.tensor(10.0), torch.tensor(-3.0)
    drawn = torch.tensor([0, 1, 1, 2])
    media = Media(torch.tensor([0, 1, 1, 1]), torch.tensor([[True, True, False], [True, True, True]]))
    batch = Batch(np.arange(4), ["a", "b", "c"], drawn, torch.bincount(drawn), match_drawn(drawn.numpy(), 3), media)
    positive, ignored = batch.row_masks(slice(None))
    assert torch.equal(positive, F.one_hot(drawn, 3).bool())
    assert torch.equal(ignored, torch.tensor([[False, False, True], [False] * 3, [False] * 3, [False] * 3]))
    kept = torch.tensor([True, True, False, False])  # one of two of text b, and the only one of text c
    part = batch.without(~kept)
    broken = image.clone().requires_grad_()
    loss = contrastive_loss(broken, text, scale, part.positive, part.ignored, part.counts)
    expected = contrastive_loss(image[kept], text, scale, positive[kept], ignored[kept], torch.tensor([1, 1, 0]))
    torch.testing.assert_close(loss, expected)
    loss = loss + sigmoid_loss(broken, text, scale, bias, part.positive, part.ignored)
    expected = expected + sigmoid_loss(image[kept], text, scale, bias, positive[kept], ignored[kept])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert broken.grad is not None
    assert broken.grad[2:].abs().max() == 0
    nobody = batch.without(torch.ones(4, dtype=torch.bool))
    assert contrastive_loss(image, text, scale, nobody.positive, nobody.ignored, nobody.counts) == 0


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = Optimizer(learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_gains_biases_and_logit_scale_are_not_decayed() -> None:
    network = CLIP(load_preset("sightword-small"))
    decayed, kept = build_optimizer(network, Optimizer()).param_groups
    spared = {id(p) for p in kept["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in spared}
    assert "logit_scale" in names
    assert all(
        name.endswith(("bias", "logit_scale")) or "ln_" in name or "bn" in name or "downsample.1" in name
        for name in names
    )
    assert kept["weight_decay"] == 0
    assert len(kept["params"]) + len(decayed["params"]) == len(list(network.parameters()))


def test_moving_average_follows_parameters_and_batch_statistics() -> None:
    network = CLIP(load_preset("sightword-small"))
    average = MovingAverage(network, 0.9)
    with torch.no_grad():
        network.visual.bn1.running_mean += 1.0
        network.text_projection += 1.0
    before = average.state["text_projection"].clone()
    average.update(network, step=10_000)
    torch.testing.assert_close(average.state["text_projection"] - before, torch.full_like(before, 0.1))
    torch.testing.assert_close(average.state["visual.bn1.running_mean"], torch.full((24,), 0.1))


def test_a_batch_depends_on_seed_and_step_alone(colours: Path) -> None:
    data = load_config(write_config(colours)).data
    one, other = TrainingSet(data, colours, seed=3), TrainingSet(data, colours, seed=3)
    first, again = one.batch(7, 32), other.batch(7, 32)
    assert (first.items == again.items).all()
    assert first.texts == again.texts
    assert not (first.items == one.batch(8, 32).items).all()
    assert first.positive.any(dim=1).all()
    assert int(first.counts.sum()) == 32
    assert len(one) + len(one.holdout) == 160
    assert len(one.holdout) > 10


def test_same_label_is_positive_and_a_tag_is_no_negative(colours: Path) -> None:
    data = load_config(write_config(colours)).data
    training_set = TrainingSet(data, colours, seed=0)
    batch, plain = training_set.batch(0, 64), PlainBatches(data, colours, training_set)
    for row, item in enumerate(batch.items):
        label = plain.annotation(int(item)).label
        assert label
        for column, text in enumerate(batch.texts):
            if label in text:
                assert batch.positive[row, column]
            elif text == "colour":
                assert batch.positive[row, column] or batch.ignored[row, column]
            else:
                assert not batch.positive[row, column]


def test_no_picture_with_any_of_several_phrases_is_a_negative(tmp_path: Path) -> None:
    members = {}
    for i in range(24):
        told = {"label": ("Face", "face")[i % 2], "tags": ["grin", "smile", "eyes"], "description": "One. Two. Three."}
        members[f"{i}.png"], members[f"{i}.json"] = picture("red", i), json.dumps(told).encode()
    write_shard(tmp_path / "train-0.tar", members)
    data = {"train": [{"shards": ["train-*.tar"]}], "holdout": 0, "store_pixels": 32, "max_long_text": 0.5}
    training_set = TrainingSet(load_config(write_config(tmp_path, data=data)).data, tmp_path, 0)
    for step in range(4):
        batch = training_set.batch(step, 64)
        assert len(batch.texts) > 8
        assert (batch.positive | batch.ignored).all()  # all pictures are said to show the same


def test_a_phrase_is_one_text_of_a_batch_and_every_label_is_asked_for(tmp_path: Path) -> None:
    members = {}
    for i in range(60):
        members[f"{i}.png"] = picture("red", i)
        members[f"{i}.json"] = json.dumps({"label": "crayfish" if i == 7 else "Red"}).encode()
    write_shard(tmp_path / "train-0.tar", members)
    source = {"shards": ["train-*.tar"], "class_power": 1, "all_labels": True}
    data = {"train": [source], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    training_set = TrainingSet(load_config(write_config(tmp_path, data=data)).data, tmp_path, 0)
    seen = set()
    for step in range(6):
        batch = training_set.batch(step, 8)
        assert sorted("crayfish" in text for text in batch.texts) == [False, True]
        seen |= set(batch.texts)
    assert len(seen) > 4  # other batches have other wordings
    undrawn = batch.counts == 0
    assert not batch.positive[:, undrawn].any()
    image, text = torch.randn(8, 4, requires_grad=True), torch.randn(len(batch.texts), 4)
    loss = contrastive_loss(image, text, torch.tensor(1.0), batch.positive, batch.ignored, batch.counts)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(image.grad).all()  # type: ignore[union-attr,arg-type]


def test_what_is_said_in_one_medium_is_no_negative_in_another(tmp_path: Path) -> None:
    for medium, labels in {"photograph": ("red", "crayfish"), "drawing": ("truck", "red")}.items():
        members = {}
        for i in range(40):
            members[f"{i}.png"], members[f"{i}.json"] = picture("red", i), json.dumps({"label": labels[i % 2]}).encode()
        write_shard(tmp_path / f"{medium}-0.tar", members)
    sources = [
        {"shards": ["photograph-*.tar"], "medium": "photograph", "all_labels": True},
        {"shards": ["drawing-*.tar"], "medium": "drawing"},
    ]
    data = {"train": sources, "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    batch = TrainingSet(load_config(write_config(tmp_path, data=data)).data, tmp_path, 0).batch(0, 64)
    photographs = torch.from_numpy(batch.items < 40)
    word = {name: torch.tensor([name in text for text in batch.texts]) for name in ("truck", "crayfish", "red")}
    assert batch.ignored[photographs][:, word["truck"]].all()
    assert batch.ignored[~photographs][:, word["crayfish"]].all()
    assert not batch.ignored[~photographs][:, word["truck"]].any()
    assert not batch.ignored[photographs][:, word["crayfish"]].any()
    assert batch.positive[:, word["red"]].any(dim=1).sum() > photographs.sum() / 3  # in both media
    negatives = ~batch.positive & ~batch.ignored
    assert negatives[photographs].any()
    assert negatives[~photographs].any()


def test_the_recipe_of_the_bundled_checkpoint_can_be_read() -> None:
    data = load_config(CONFIGS / "bundled.yaml").data
    assert data.synonyms
    assert load_synonyms(CONFIGS / data.synonyms)
    assert data.exclude
    shards = [Path(each).name for source in data.train for pattern in source.shards for each in bracex.expand(pattern)]
    for key in load_excluded(CONFIGS / data.exclude):
        assert any(fnmatch(key.partition("/")[0], pattern) for pattern in shards), key


def test_excluded_items_are_neither_learned_nor_held_out(colours: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = load_config(write_config(colours)).data
    everything = TrainingSet(data, colours, seed=0)
    (colours / "exclude.json").write_text('["train-0.tar/0003", "train-0.tar/0004", "train-1.tar/0003"]')
    rest = TrainingSet(data.model_copy(update={"exclude": "exclude.json"}), colours, seed=0)
    assert len(rest) + len(rest.holdout) == len(everything) + len(everything.holdout) - 2
    assert "1 of 3 keys are in no source, such as train-1.tar/0003" in caplog.text
    (colours / "exclude.json").write_text('{"train-0.tar/0003": true}')
    with pytest.raises(ConfigError, match=r"exclude\.json is not a list of keys"):
        TrainingSet(data.model_copy(update={"exclude": "exclude.json"}), colours, seed=0)


def test_augmentation_keeps_shape_range_and_colour_and_is_repeatable() -> None:
    pixels = torch.zeros(16, 48, 48, 4, dtype=torch.uint8)
    pixels[..., 0], pixels[..., 3] = 200, 255
    aspects, transparent = torch.full((16,), 1.5), torch.zeros(16, dtype=torch.bool)
    made = [augment(pixels, draw_variation(aspects, transparent, [Block(16, 1)], 0.5), 64) for _ in range(2)]
    assert made[0].shape == (16, 3, 64, 64)
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    assert made[0].equal(made[1])
    red, green, _ = made[0].mean((0, 2, 3))
    assert red > green + 0.2


def test_transparent_drawings_get_varied_backgrounds() -> None:
    pixels = torch.zeros(64, 32, 32, 4, dtype=torch.uint8)  # nothing but background
    variation = draw_variation(torch.ones(64), torch.ones(64, dtype=torch.bool), [Block(64, 0)], 0.5)
    made = augment(pixels, variation, 32)
    corners = {tuple((picture[:, 0, 0] * 8).int().tolist()) for picture in made}
    assert len(corners) > 20


def test_undecodable_pictures_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = {}
    for i in range(8):
        members[f"{i}.png"] = picture("blue", i) if i else b"not a picture"
        members[f"{i}.txt"] = b"blue"
    write_shard(tmp_path / "train-0.tar", members)
    data = load_config(write_config(tmp_path)).data.model_copy(update={"holdout": 0.0, "test": {}})
    with caplog.at_level(logging.WARNING):
        assert len(TrainingSet(data, tmp_path, 0)) == 7
    assert "broken picture: 1" in caplog.text
