"""What is trained further is laid beside what it was, and small sets are told to be small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from tests.training.conftest import COLOURS, further, picture, write_config, write_shard
from training.config import load_config
from training.data.split import draw_per_label
from training.evaluation.intervals import percent
from training.evaluation.results import HELD_OUT
from training.loop.setup import setup
from training.run import train_and_export

AT_64 = {"stages": [{"start": 0, "pixels": 64}]}


@pytest.fixture(scope="module")
def good(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells most colours."""
    file = write_config(colours, steps=30, evaluate_every=15, batch_size=16)
    return train_and_export(load_config(file), colours, tmp_path_factory.mktemp("good") / "run").path


def test_what_fine_tuning_spoils_is_said_aloud_and_written(
    colours: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer = {"learning_rate": 0.5, "warmup_steps": 1}  # which leaves nothing of what it knew
    changes = further(good, steps=3, evaluate_every=3, batch_size=16, ema_decay=0) | {"optimizer": optimizer} | AT_64
    bundle = train_and_export(load_config(write_config(colours, **changes)), colours, tmp_path / "run")
    told = capsys.readouterr().err
    score = bundle.manifest.scores["colours"]
    assert score["before"] >= 0.75  # chance is 0.25
    assert score["difference"] == pytest.approx(score["value"] - score["before"], abs=2e-4)
    assert score["difference"] < 0
    assert bundle.manifest.source["start_score"] > bundle.manifest.source["best_score"]
    line = f"{100 * score['before']:.1f} % before, {100 * score['value']:.1f} % after"
    assert f"WORSE THAN THE START: colours: {line}" in told
    assert f"WORSE THAN THE START: {HELD_OUT}: " in told
    assert "start: held-out zero-shot top-1" in told
    assert "points from the start" in told
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    card = (bundle.path / "MODEL_CARD.md").read_text("utf-8")
    assert f"| colours | 40 | top-1 | {100 * score['before']:.1f} | {100 * score['value']:.1f} | " in card
    assert "**worse**" in card
    assert "Before and after" in page
    assert f"{100 * score['before']:.1f} before" in page


def test_the_start_is_scored_for_pictures_of_its_own_size_and_once(colours: Path, good: Path, tmp_path: Path) -> None:
    changes = further(good, steps=2, evaluate_every=2, checkpoint_every=1, batch_size=8) | AT_64
    same = setup(load_config(write_config(colours, **changes)), tmp_path / "same", colours)
    same.fit()
    larger = write_config(colours, **changes, image_size=128)
    resized = setup(load_config(larger), tmp_path / "larger", colours)
    resized.fit()
    assert resized.state.start_score == same.state.start_score
    assert setup(load_config(larger), tmp_path / "larger", colours).state.start_score == same.state.start_score


def test_a_run_from_scratch_has_nothing_before(good: Path) -> None:
    manifest = Bundle.load(good).manifest
    assert "before" not in manifest.scores["colours"]
    assert "Before and after" not in (good.parent / "report.html").read_text("utf-8")


def test_a_hold_out_has_its_share_of_each_label() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(-1, 9), [400, 200, 100, 40, 20, 20, 10, 5, 2, 1])
    hashes = rng.permutation(len(labels))
    drawn = draw_per_label(labels, hashes, 0.1)
    assert [int(drawn[labels == label].sum()) for label in range(-1, 5)] == [40, 20, 10, 4, 2, 2]
    assert all(drawn[labels == label].sum() < (labels == label).sum() for label in range(-1, 9))
    assert drawn.sum() == pytest.approx(80, abs=1)
    order = rng.permutation(len(labels))  # what lies where decides nothing
    assert draw_per_label(labels[order], hashes[order], 0.1)[np.argsort(order)].tolist() == drawn.tolist()


def test_many_small_labels_have_their_share_together() -> None:
    labels = np.repeat(np.arange(60), 5)
    assert draw_per_label(labels, np.arange(300) % 7, 0.05).sum() == 15
    assert draw_per_label(labels, np.arange(300) % 7, 0.0).sum() == 0
    assert draw_per_label(np.arange(10), np.arange(10), 0.9).sum() == 0  # the only sample of a label is learned from


def test_a_small_hold_out_and_a_small_test_are_warned_of(
    tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("train", 40), ("test", 8)):
        members = {}
        for number in range(count):
            label = list(COLOURS)[number % 4]
            members[f"{number:04d}.png"] = picture(label, number + (100 if name == "test" else 0))
            members[f"{number:04d}.json"] = json.dumps({"label": label}).encode()
        write_shard(tmp_path / f"{name}-0.tar", members)
    data = {"train": [{"shards": ["train-*.tar"]}], "test": {"few": ["test-*.tar"]}, "holdout": 0.1, "store_pixels": 48}
    file = write_config(tmp_path, **further(tiny, steps=2, evaluate_every=2, batch_size=4, data=data))
    bundle = train_and_export(load_config(file), tmp_path, tmp_path / "run")
    assert "only 4 pictures, of which no percentage says much, and one picture is 25 points" in caplog.text
    told = capsys.readouterr().err
    assert ", of 4)" in told
    warning = "few: only 8 pictures, of which no percentage says much"
    assert f"Warning: {warning}" in told
    assert warning in (bundle.path / "MODEL_CARD.md").read_text("utf-8")
    assert warning in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_percentage_comes_with_what_it_may_be() -> None:
    assert percent(1.0, 1) == "100.0 % (95 %: 20.7 to 100.0, of 1)"
    assert percent(0.5, 1000) == "50.0 % (95 %: 46.9 to 53.1, of 1,000)"
