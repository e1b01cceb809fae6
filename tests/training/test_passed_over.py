"""What is no sample is passed over by one rule, in training as in evaluation, and is told with its numbers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.conftest import COLOURS, further, picture, write_config, write_shard
from tests.training.test_sources import read
from training.__main__ import app
from training.config import Source, load_config
from training.data.index import open_index
from training.evaluation.datasets import DataError, parse_dataset
from training.run import train_and_export

JUNK = (
    ".DS_Store", "._a.png", "__MACOSX/red/._a.png", "__MACOSX/red/b.png", "red/._1.png", "red/.DS_Store",
    "red/Thumbs.db",
    "red/desktop.ini", "green/.ipynb_checkpoints/1.png", ".git/hooks/a.png", "@eaDir/red/1.png", "blue/@eaDir/1.jpg",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders as a Mac, Windows, a notebook and a Synology leave them."""
    for number, name in enumerate(COLOURS):
        (tmp_path / "set" / name).mkdir(parents=True)
        for suffix in ("png", "PNG"):
            (tmp_path / "set" / name / f"1.{suffix}").write_bytes(picture(name, number))
    for name in JUNK:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"no picture")
    (tmp_path / "set" / "empty").mkdir()
    (tmp_path / "set" / "red" / "notes.pdf").write_bytes(b"x")
    (tmp_path / "set" / "red" / "zero.png").write_bytes(b"")
    return tmp_path


def test_training_and_evaluation_pass_over_the_same_files(folder: Path) -> None:
    found, trained = read(folder, folder="set")
    [split] = parse_dataset("set", folder).read("test").values()
    assert len(found) == len(split) == 2 * len(COLOURS)
    assert sorted({label for _, _, label in found.values() if label}) == sorted(split.classes) == sorted(COLOURS)
    assert dict(trained.counts) == dict(split.skipped.counts) == {"empty picture": 1}
    for skipped in (trained, split.skipped):
        assert skipped.passed_over["hidden or made by the system"] >= 9
        assert skipped.passed_over["a class folder without pictures"] == 1
        assert "set/empty" in skipped.examples["a class folder without pictures"]


def test_evaluate_says_what_its_figures_are_not_about(folder: Path, tiny: Path) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", str(tiny), "--data", str(folder / "set"), "--output", str(folder / "r.json")]
    )
    assert done.exit_code == 0, done.output
    assert "empty picture 1." in done.output
    assert "a class folder without pictures: 1" in done.output
    [record] = json.loads((folder / "r.json").read_text())
    assert (record["pictures"], record["choices"], record["skipped"]) == (8, 4, {"empty picture": 1})


def test_prepare_says_what_it_passed_over(folder: Path) -> None:
    done = CliRunner().invoke(app, ["prepare", str(folder / "set"), "--to", str(folder / "out")])
    assert done.exit_code == 0, done.output
    assert "8 pictures in 1 shards; skipped 1 in all: empty picture: 1" in done.output
    assert "hidden or made by the system" in done.output
    assert "neither a picture nor a text: 1" in done.output


def test_shards_of_a_mac_are_measured(tmp_path: Path) -> None:
    members = {}
    for number, name in enumerate(COLOURS):
        label = json.dumps({"label": name}).encode()
        members |= {f"./._{number}.png": b"mac", f"./{number}.png": picture(name, number), f"./{number}.json": label}
    members |= {f"__MACOSX/._{name}": b"mac" for name in list(members)[:2]} | {
        "x.txt": b"alone",
        "y.png": b"",
        "y.txt": b"z",
    }
    write_shard(tmp_path / "test-0.tar", members)
    [split] = parse_dataset("test-*.tar", tmp_path).read("test").values()
    assert sorted(split.classes) == sorted(COLOURS)
    assert dict(split.skipped.counts) == {"no picture": 1, "empty picture": 1}


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["red"], "of one class only, 'red': there is nothing to tell apart"), ([], "hold no pictures")],
)
def test_too_few_classes_are_an_error(tmp_path: Path, classes: list[str], message: str) -> None:
    (tmp_path / "set" / "empty").mkdir(parents=True)
    for name in classes:
        (tmp_path / "set" / name).mkdir()
        (tmp_path / "set" / name / "1.png").write_bytes(picture("red", 0))
    with pytest.raises(DataError, match=message):
        parse_dataset("set", tmp_path).read("test")


def test_samples_of_one_label_are_an_error_that_says_so(tmp_path: Path) -> None:
    members = {f"{n}.{s}": part for n in range(3) for s, part in (("png", picture("red", n)), ("cls", b"red"))}
    write_shard(tmp_path / "test-0.tar", members)
    with pytest.raises(DataError, match="all samples have the one label 'red'"):
        parse_dataset("test-*.tar", tmp_path).read("test")


def test_folders_whose_names_mean_the_same_are_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("fire_engine", "fire engine", "Tree", "tree"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(picture("red", 0))
    [split] = parse_dataset("set", tmp_path).read("test").values()
    assert list(split.classes) == ["Tree", "fire engine", "tree"]
    assert "'Tree' and 'tree'" in capsys.readouterr().err


def test_what_a_run_skipped_is_in_its_bundle_and_report(tiny: Path, tmp_path: Path) -> None:
    members = {}
    for number in range(40):
        name = list(COLOURS)[number % 4]
        members |= {f"{number}.png": picture(name, number), f"{number}.txt": name.encode()}
    members |= {"x.txt": b"alone", "7.png": b"broken", "z.png": b"", "z.txt": b"y"}
    write_shard(tmp_path / "train-0.tar", members)
    config = load_config(
        write_config(tmp_path, **further(tiny, batch_size=8, data={"train": [{"shards": "train-*.tar"}]}))
    )
    bundle = train_and_export(config, tmp_path, tmp_path / "run")
    assert bundle is not None
    skipped = {"no picture": 1, "empty picture": 1, "broken picture": 1}
    assert bundle.manifest.source["skipped_items"] == skipped
    told = "Skipped: broken picture 1, empty picture 1, no picture 1."
    assert told in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert told in (bundle.path / "MODEL_CARD.md").read_text("utf-8")


def test_a_source_of_one_label_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set" / "dog").mkdir(parents=True)
    (tmp_path / "set" / "dog" / "1.png").write_bytes(picture("red", 0))
    open_index(Source(folder="set"), tmp_path)
    assert "all samples have the one label 'dog'" in capsys.readouterr().err


def test_every_reason_is_told_with_its_first_example(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = {f"{number}.txt": b"x" for number in range(20)} | {
        "a.png": picture("red", 0),
        "a.txt": b"red",
        "z.png": b"x",
    }
    write_shard(tmp_path / "a.tar", members)
    with caplog.at_level(logging.WARNING):
        read(tmp_path, shards="a.tar")[1].log_summary(print)
    assert "21 in all: no picture: 20, no readable text: 1" in caplog.text
    assert "\n  no picture, first a.tar/0 (it has .txt)" in caplog.text
    assert "\n  no readable text, first a.tar/z" in caplog.text
