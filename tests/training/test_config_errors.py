"""What is wrong in a configuration or a command is named, and the nearest right name offered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.conftest import write_config
from training.__main__ import app
from training.config import ConfigError, load_config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rte=1", r"learning_rte: .* did you mean optimizer.learning_rate\?"),
        ("learning_rate=1", "learning_rate belongs under optimizer"),
        ("optimizer.learning_rte=1", r"optimizer.learning_rte: .* did you mean learning_rate\?"),
        ("optimzer.lr=1", r"optimzer: .* did you mean optimizer\? \(lr is optimizer.learning_rate\)"),
        ("holdout=0.1", "holdout belongs under data"),
        ("shards=a.tar", "shards belongs under data.train"),
        ("epochs=3", r"did you mean steps\?"),
        ("data.trian=[]", r"data.trian: .* did you mean train\?"),
        ("lock.img=1", r"lock.img: .* did you mean image\?"),
        ("optimizer.momentum=1", "optimizer.momentum: there is no such field; there are learning_rate, betas"),
        ("device=gpu", r"device: 'gpu' is not one of auto, cpu, cuda: did you mean cuda\?"),
        ("precision=float16", r"precision: .* did you mean fp16\?"),
        ("weights_dtype=fp16", r"weights_dtype: .* did you mean float16\?"),
        ("objective.kind=siglip", r"objective.kind: .* did you mean sigmoid\?"),
        ("parallel=fsp", r"parallel: .* did you mean fsdp\?"),
        ("data.pictures=memry", r"data.pictures: .* did you mean memory\?"),
        ("model=ViT-B32", r"model: no preset 'ViT-B32' \(did you mean ViT-B-32"),
        ("data.train=[{shrads: a.tar}]", r"data.train.0.shrads: .* did you mean shards\?"),
        ("stages=[{start: 0, pixel: 64}]", r"stages.0.pixel: .* did you mean pixels\?"),
    ],
)
def test_the_nearest_right_name_is_offered(colours: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(colours), [change])


def test_a_field_that_is_there_twice_is_refused(colours: Path, tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(write_config(colours).read_text() + "steps: 5\n")
    with pytest.raises(ConfigError, match="steps is there twice"):
        load_config(file)


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just words"])
def test_a_file_without_fields_is_refused_for_what_it_is(content: str, tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match="holds no fields"):
        load_config(file, ["steps=3"])


def output(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code != 0
    return done.output


def test_a_path_that_is_not_there_offers_what_lies_beside_it(colours: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path)
    assert f"did you mean {file}" in output("train", "--config", str(file).replace("config-", "confg-"))
    assert f"did you mean {file}" in output("attributions", "--config", str(file).replace("config-", "confg-"))
    data = {"train": [{"shards": [f"{colours.parent}/{colours.name[:-1]}x/train-*.tar"]}]}
    assert f"did you mean {colours.parent}/{colours.name}" in output(
        "train", "--config", write_config(tmp_path, data=data)
    )
    data = {"train": [{"shards": [f"{colours}/*.wds"]}]}
    holds = f"{colours} holds "
    assert holds in output("train", "--config", write_config(tmp_path, data=data))
    assert "train-0.tar" in output("evaluate", "--data", f"{colours}/trian-0.tar")
    assert "train-0.tar" in output("prepare", f"{colours}/trian-0.tar", "--to", tmp_path / "out")
    assert "train-0.tar" in output("duplicates", "--train", f"{colours}/trian-0.tar", "--test", f"{colours}/test-0.tar")
    (tmp_path / "pictures").mkdir()
    assert "did you mean" in output("evaluate", "--data", tmp_path / "pictuers")
    assert "did you mean" in output("prepare", tmp_path / "pictuers", "--to", tmp_path / "out")
    assert "did you mean" in output("evaluate", tmp_path / "pictuers", "--data", f"{colours}/test-0.tar")
    (tmp_path / "names.json").write_text("{}")
    names = ("--class-names", tmp_path / "nmaes.json")
    assert "did you mean" in output("evaluate", "--data", f"{colours}/test-0.tar", *names)
    data = {"train": [{"shards": [f"{colours}/train-*.tar"]}], "synonyms": "nmaes.json"}
    assert "names.json?" in output("train", "--config", write_config(tmp_path, data=data))


def test_names_that_a_command_takes_are_offered(colours: Path) -> None:
    tests = ("--data", f"{colours}/test-0.tar")
    assert "did you mean zeroshot" in output("evaluate", *tests, "--task", "zero-shot")
    assert "did you mean imagenet-7" in output("evaluate", *tests, "--template", "imagenet7")
    assert "did you mean pets" in output("datasets", "pest")
    assert "'train'" in output("trian")
    assert "--config" in output("train", "--confg", "x")


def test_a_name_that_changes_nothing_is_warned_of(
    colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"gren": ["green thing"], "red": ["crimson"]}))
    arguments = ["evaluate", "--data", f"pest={colours}/test-0.tar", "--class-names", str(names)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "'gren' is no class of what was measured. did you mean green?" in caplog.text
    assert "'red' is no class" not in caplog.text
    assert "did you mean pets?" in caplog.text
