"""python -m training evaluate and datasets, on the bundled checkpoint and on checkpoints of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.bundle import bundled
from tests.training.conftest import COLOURS, picture, write_shard
from training.__main__ import app
from training.evaluation.results import Result, write_results

RUNNER = CliRunner()


def evaluated(*arguments: str | Path, output: Path) -> list[dict[str, object]]:
    done = RUNNER.invoke(app, ["evaluate", *map(str, arguments), "--output", str(output)])
    assert done.exit_code == 0, done.output
    records: list[dict[str, object]] = json.loads(output.read_text())
    return records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured pictures in folders, 16 of each class to learn from and 8 to test."""
    root = tmp_path_factory.mktemp("folders")
    for split, count in (("train", 16), ("test", 8)):
        for number, name in enumerate(COLOURS):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                seed = 1000 * number + n + (100 if split == "test" else 0)
                (root / split / name / f"{n}.png").write_bytes(picture(name, seed))
    return root


def test_probes_and_shots_learn_the_colours(folder: Path, tmp_path: Path) -> None:
    records = evaluated(
        "--data", folder, "--task", "linear-probe", "--task", "few-shot", "--task", "zeroshot",
        output=tmp_path / "r.json",
    )  # fmt: skip
    tasks = [record["task"] for record in records]
    assert tasks == ["zeroshot_classification", "linear_probe", *["few_shot"] * 4]  # 1, 2, 4 and 8 shots
    assert records[1]["metrics"]["acc1"] >= 0.95  # type: ignore[index]
    assert records[0]["choices"] == 4


def test_robustness_lays_the_shifted_set_beside_the_clean_one(folder: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted"
    for name in ("red", "blue"):
        (shifted / name).mkdir(parents=True)
        (shifted / name / "1.png").write_bytes(picture(name, 5))
    records = evaluated("--data", folder, "--data", shifted, "--task", "robustness", output=tmp_path / "r.json")
    against = records[-1]
    assert against["task"] == "robustness"
    assert against["choices"] == 2
    metrics = against["metrics"]
    assert metrics["acc1_lost"] == pytest.approx(metrics["acc1_clean"] - metrics["acc1"], abs=1e-5)  # type: ignore[index]


def test_class_names_and_selected_templates(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text('{"red": ["red wall", "crimson"], "green": "green wall"}')
    [record] = evaluated(
        "--data",
        folder,
        "--class-names",
        names,
        "--template",
        "photo",
        "--select-templates",
        output=tmp_path / "r.json",
    )
    settings = record["settings"]
    assert len(settings["templates"]) == len(settings["training_acc1"]) >= 1  # type: ignore[index]


def test_captions_are_found(tmp_path: Path) -> None:
    members = {}
    for number, name in enumerate(COLOURS):
        members |= {f"{number}.png": picture(name, number), f"{number}.json": json.dumps({"captions": [name]}).encode()}
    write_shard(tmp_path / "test-0.tar", members)
    [record] = evaluated("--data", f"colours={tmp_path}/test-*.tar", output=tmp_path / "r.json")
    assert record["dataset"] == "colours (captions)"
    assert record["task"] == "zeroshot_retrieval"


def test_a_folder_of_results_is_clip_benchmarks(folder: Path, tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["evaluate", "--data", f"mine={folder}", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    [file] = (tmp_path / "out").iterdir()
    record = json.loads(file.read_text())
    assert {"dataset", "model", "pretrained", "task", "metrics", "language"} <= set(record)
    assert (record["dataset"], record["model"]) == ("mine", "sightword-small")


def test_a_checkpoint_is_measured_as_the_bundle_made_of_it(folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    network = CLIPModel(
        CLIPConfig(
            text_config={**small, "vocab_size": 49408}, vision_config={**small, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    )  # fmt: skip
    network.save_pretrained(tmp_path / "hf")
    records = evaluated(tmp_path / "hf", "--data", folder, output=tmp_path / "r.json")
    assert records[0]["pictures"] == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to measure on"),
        (["--data", "nowhere"], "not a folder"),
        (["--data", "x", "--task", "ocr"], "there is no task ocr"),
        (["--data", "x", "--task", "robustness"], "robustness compares"),
        (["--data", "x", "--template", "no place"], "exactly once"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], message: str) -> None:
    done = RUNNER.invoke(app, ["evaluate", str(bundled()), *arguments])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output


def test_the_registry_can_be_read() -> None:
    listed = RUNNER.invoke(app, ["datasets"])
    assert listed.exit_code == 0
    assert listed.output.count("\n") == 2 + 36
    one = RUNNER.invoke(app, ["datasets", "pets"])
    assert "CC BY-SA 4.0" in one.output
    assert "a photo of a {}, a type of pet." in one.output
    assert RUNNER.invoke(app, ["datasets", "nothing"]).exit_code == 1


def test_data_sets_of_paths_have_names_that_are_no_paths_and_differ(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    for folder in (tmp_path / "own" / "test", work / "own" / "test"):
        folder.mkdir(parents=True)
        (folder / "some.tar").write_bytes((colours / "test-0.tar").read_bytes())
    monkeypatch.chdir(work)
    data = ["--data", "../own/test/*.tar", "--data", "own/test/*.tar", "--data", ".hidden=own/test/*.tar"]
    done = RUNNER.invoke(app, ["evaluate", *data, "--task", "zeroshot", "--output", "out"])
    assert done.exit_code == 0, done.output
    task = "_sightword-small_zeroshot_classification.json"
    files = sorted(file.name for file in (work / "out").iterdir())
    assert files == [f"hidden{task}", f"own-test-2{task}", f"own-test{task}"]
    assert "| own-test | zero-shot" in done.output
    assert "| own-test-2 | zero-shot" in done.output


def test_results_whose_names_a_file_cannot_tell_apart_are_all_written(tmp_path: Path) -> None:
    results = [Result(name, "zeroshot", 1, 2, "acc1", (0, 1), {"acc1": 1.0}) for name in ("a b", "a/b", "A-b")]
    write_results(results, "model", "digest", tmp_path)
    assert sorted(json.loads(file.read_text())["dataset"] for file in tmp_path.iterdir()) == ["A-b", "a b", "a/b"]
