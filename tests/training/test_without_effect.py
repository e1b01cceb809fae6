"""A setting that can change nothing is refused with its field, or told where it is the run that is too short for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.conftest import TINY, further, picture, write_config, write_shard
from training.config import Columns, Data, Objective, Source, TrainConfig, load_config
from training.data.dataset import TrainingSet
from training.loop.setup import setup, without_effect


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parallel": "fsdp"}, "parallel: fsdp divides nothing where there is one process"),
        ({"ema_decay": 0.5, "steps": 8}, "ema_decay: 0.5 is not reached in 8 steps"),
        ({"stages": [{"start": 0, "pixels": 32}, {"start": 0.8, "pixels": 24}]}, "stages: the one at 0.8 begins after"),
        (
            {"data": {"train": [{"shards": ["train-*.tar"]}], "captions": {"teacher": "a bundle"}}},
            "data.captions.teacher: it judges captions for filters.min_similarity, which is not set",
        ),
        ({"patch_dropout": 0.01}, "patch_dropout: 0.01 of 16 patches is none of them"),
    ],
)
def test_what_a_run_cannot_follow_is_told(colours: Path, tiny: Path, changes: dict[str, Any], told: str) -> None:
    config = load_config(write_config(colours, **further(tiny, **{"ema_decay": 0.2, **changes})))
    [line] = without_effect(config, TINY, 1)
    assert line.startswith(told)
    done = load_config(write_config(colours, **further(tiny, ema_decay=0.2)))
    assert without_effect(done, TINY, 1) == []
    assert without_effect(config, TINY, 2) == ([] if "parallel" in changes else [line])


def test_it_is_told_when_the_run_begins(
    colours: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(write_config(colours, **further(tiny, parallel="fsdp")))
    setup(config, tmp_path / "run", colours)
    assert "without effect: parallel: fsdp divides nothing" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Objective, {"teacher_weight": 2.0}, "teacher_weight is of a teacher"),
        (Objective, {"teacher_scale": 20.0}, "teacher_scale is of a teacher"),
        (Source, {"shards": "a.tar", "columns": {"label": "kind"}}, "columns are those of a table"),
        (Source, {"folder": "a", "columns": {"label": "kind"}}, "columns are those of a table"),
        (Source, {"shards": "a.tar", "resample": False, "class_power": 0.5}, "set resample to true"),
    ],
)
def test_a_setting_of_what_is_not_there_is_refused(
    kind: type[Objective | Source], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(fields)


def test_the_configuration_that_a_run_keeps_can_be_read_again() -> None:
    for source in (
        Source(shards="a.tar", resample=False),
        Source(shards="a.tar", class_power=0.25),
        Source(table="a.csv", columns=Columns(label="kind")),
    ):
        config = TrainConfig(
            name="x", model="sightword-small", data=Data(train=[source]), steps=4, batch_size=8,
            stages=[{"start": 0, "pixels": 64}], optimizer={"warmup_steps": 1, "clip_norm": None},
            objective={"teacher": "bundle", "teacher_weight": 0.5},
        )  # fmt: skip
        assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_a_run_that_draws_each_picture_once_in_a_pass_is_resumed(colours: Path, tiny: Path, tmp_path: Path) -> None:
    data = {"train": [{"shards": ["train-*.tar"], "resample": False}], "holdout": 0.2, "store_pixels": 48}
    config = load_config(write_config(colours, **further(tiny, data=data)))
    setup(config, tmp_path / "run", colours).fit()
    assert setup(config, tmp_path / "run", colours).state.step == 4


def test_all_labels_of_a_source_without_labels_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = {f"{n}.{kind}": data for n in range(8) for kind, data in (("png", picture("red", n)), ("txt", b"red"))}
    write_shard(tmp_path / "a.tar", members)
    for asked in (False, True):
        with caplog.at_level(logging.WARNING):
            TrainingSet(Data(train=[Source(shards="a.tar", all_labels=asked)], holdout=0), tmp_path, 0)
        assert ("data.train.0.all_labels asks for nothing" in caplog.text) is asked
