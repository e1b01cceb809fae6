"""The lengths that vectors were trained to be cut to: from the files, or as the user says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.matryoshka import Matryoshka, read_matryoshka
from model.manifest import Manifest
from tests.model.hub.published_models import save_huggingface


def config(folder: Path, name: str = "config.json", **fields: object) -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("field", ["matryoshka_dimensions", "matryoshka_dims", "mrl_resolutions"])
@pytest.mark.parametrize("name", ["config.json", "0_CLIPModel/config.json"])
def test_what_the_files_say(tmp_path: Path, name: str, field: str) -> None:
    folder = config(tmp_path, name, **{field: [512, 32, 64, 64]}, truncate_dim=None)
    assert read_matryoshka(folder, 768, Options()) == Matryoshka((32, 64, 512, 768), f"{field} in config.json")


def test_the_user_has_the_last_word(tmp_path: Path) -> None:
    config(tmp_path, matryoshka_dimensions=[32])
    assert read_matryoshka(tmp_path, 64, Options(matryoshka_dimensions=(16, 64))).dimensions == (16, 64)
    with pytest.raises(CheckpointError, match="128 is not a length from 1 to 64"):
        read_matryoshka(tmp_path, 64, Options(matryoshka_dimensions=(16, 128)))


def test_nothing_said_is_nothing_known(tmp_path: Path) -> None:
    assert read_matryoshka(tmp_path, 64, Options()) == Matryoshka()
    assert read_matryoshka(config(tmp_path, matryoshka_dimensions=None), 64, Options()) == Matryoshka()
    assert read_matryoshka(tmp_path / "a-file.pt", 64, Options()) == Matryoshka()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([0, 16], "0 is not a length from 1 to 64"),
        ([16, 65], "65 is not a length"),
        ([16, True], "True is not"),
        (["16"], "'16' is not"),
        ({"a": 1}, "{'a': 1} is not"),
        (list(range(1, 65)) * 2, "128 are more than 64"),
        (16.5, "16.5 is not"),
    ],
)
def test_what_cannot_be_is_told_and_not_taken(tmp_path: Path, value: object, why: str) -> None:
    said = read_matryoshka(config(tmp_path, matryoshka_dimensions=value), 64, Options())
    assert (said.dimensions, said.source) == ((), "")
    assert said.warnings[0].startswith(f"matryoshka_dimensions in config.json is not taken: {why}")


def test_an_import_writes_them_into_the_manifest_and_no_digest_changes(tmp_path: Path) -> None:
    folder = save_huggingface(tmp_path / "checkpoint")
    content = json.loads((folder / "config.json").read_text())
    run = CliRunner()

    def imported(name: str, *options: str) -> Bundle:
        outcome = run.invoke(
            app, ["import", str(folder), "--to", str(tmp_path / name), *options], catch_exceptions=False
        )
        assert outcome.exit_code == 0, outcome.output
        return Bundle.load(tmp_path / name)

    plain = imported("plain")
    assert plain.manifest.matryoshka_dimensions == ()
    (folder / "config.json").write_text(json.dumps({**content, "matryoshka_dimensions": [8, 16]}))
    trained = imported("trained", "--name", plain.id)
    assert trained.manifest.matryoshka_dimensions == (8, 16, trained.dimensions)
    assert trained.manifest.source["matryoshka_from"] == "matryoshka_dimensions in config.json"
    assert trained.digest == plain.digest
    said = imported("said", "--matryoshka-dimensions", "4, 8")
    assert said.manifest.matryoshka_dimensions == (4, 8, trained.dimensions)
    shown = run.invoke(app, ["inspect", str(said.path)]).stdout
    assert f"trained to be cut to  4, 8, {trained.dimensions}" in shown


@pytest.mark.parametrize("text", ["64;128", "-1", "64,", "1e3", "9" * 10_000])
def test_lengths_that_are_none(tmp_path: Path, text: str) -> None:
    arguments = ["import", str(tmp_path), "--to", str(tmp_path / "to"), f"--matryoshka-dimensions={text}"]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 1
    assert "is not a length: they are written as 64,128,256" in outcome.stderr


def test_a_manifest_of_before_is_read_as_it_was() -> None:
    content = json.loads((bundled() / "bundle.json").read_text())
    assert "matryoshka_dimensions" not in content
    assert Manifest.model_validate(content).matryoshka_dimensions == ()
