"""Every option of `python -m training`, and the test in which giving it changes the outcome."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from model.bundle import Bundle
from tests.settings_table import check_table
from tests.training.conftest import COLOURS, further, picture, write_config, write_shard
from training import corpus
from training.__main__ import app
from training.publishing import publish as publishing
from training.publishing.publish import PublishTarget
from training.publishing.service_client import LabelledImages
from training.report.loggers import LoggerConfig

HERE = "tests/training/test_command_options.py"
EVALUATE = "tests/training/evaluation/test_evaluate.py"
PUBLISH = "tests/training/publishing/test_publish.py"
HOSTILE = "tests/training/test_hostile_files.py"
CAPTIONS = "tests/training/test_caption_quality.py"
PREPARE = "tests/training/test_prepare.py"
CATEGORIES = "tests/training/categories/test_category_runs.py"
BESIDE = "tests/training/report/test_beside.py"
COMPARE = "tests/training/comparison/test_comparison.py"
TABLE = {
    "train --config": ("what is trained", f"{HERE}::test_a_run_is_of_its_configuration_and_lies_where_it_is_told"),
    "train --output": ("where it lies", f"{HERE}::test_a_run_is_of_its_configuration_and_lies_where_it_is_told"),
    "train --set": ("a field", f"{HERE}::test_a_run_is_of_its_configuration_and_lies_where_it_is_told"),
    "train --dry-run": ("nothing is trained", f"{HERE}::test_a_dry_run_leaves_nothing"),
    "train --tensorboard": ("event files", f"{HERE}::test_a_run_is_of_its_configuration_and_lies_where_it_is_told"),
    "train --metrics-port": ("a port", f"{HERE}::test_metrics_are_served_where_they_are_told"),
    "train --metrics-host": ("its address", f"{HERE}::test_metrics_are_served_where_they_are_told"),
    "train --publish": ("a service", "tests/training/publishing/test_end_to_end.py::"
                        "test_a_fine_tuning_is_published_and_beats_what_was_served_by_far"),
    "compare --config": ("what is compared", f"{COMPARE}::test_a_dry_run_and_the_options_change_what_they_say"),
    "compare --output": ("where it lies", f"{COMPARE}::test_a_dry_run_and_the_options_change_what_they_say"),
    "compare --set": ("a field of all runs", f"{COMPARE}::test_a_dry_run_and_the_options_change_what_they_say"),
    "compare --dry-run": ("nothing is trained", f"{COMPARE}::test_a_dry_run_and_the_options_change_what_they_say"),
    "report run": ("whose page", f"{BESIDE}::test_the_page_holds_both_runs_as_they_ended"),
    "report --beside": ("beside what", f"{BESIDE}::test_the_page_holds_both_runs_as_they_ended"),
    "report --config": ("pictures", f"{BESIDE}::test_pictures_that_one_finds_are_those_that_the_scores_say"),
    "report --data": ("pictures", f"{BESIDE}::test_pictures_that_one_finds_are_those_that_the_scores_say"),
    "report --output": ("the file", f"{BESIDE}::test_pictures_that_one_finds_are_those_that_the_scores_say"),
    "evaluate model": ("what is measured", f"{HERE}::test_what_is_measured_and_by_what"),
    "evaluate --data": ("what on", f"{HERE}::test_what_is_measured_and_by_what"),
    "evaluate --config": ("what on, with which templates", f"{HERE}::test_what_is_measured_and_by_what"),
    "evaluate --task": ("figures", f"{EVALUATE}::test_probes_and_shots_learn_the_colours"),
    "evaluate --train": ("what probes learn from", f"{HERE}::test_probes_learn_from_what_they_are_told"),
    "evaluate --template": ("prompts", f"{HERE}::test_what_is_measured_and_by_what"),
    "evaluate --select-templates": ("which are kept", f"{EVALUATE}::test_class_names_and_selected_templates"),
    "evaluate --class-names": ("prompts", f"{HERE}::test_other_names_of_classes_change_the_figures"),
    "evaluate --paraphrases": ("pairs", "tests/training/evaluation/test_paraphrase.py::"
                               "test_names_and_templates_and_a_file_are_pairs"),
    "evaluate --output": ("files", f"{EVALUATE}::test_a_folder_of_results_is_clip_benchmarks"),
    "datasets key": ("one card, not the list", f"{EVALUATE}::test_the_registry_can_be_read"),
    "publish bundle": ("what is served", f"{PUBLISH}::test_better_stays_worse_goes_and_nobody_notices"),
    "publish --to": ("by whom", f"{PUBLISH}::test_what_cannot_be_published_is_told_and_changes_nothing"),
    "publish --check": ("what it is judged by", f"{HERE}::test_a_publication_is_as_it_is_told"),
    "publish --config": ("what it is judged by", f"{HERE}::test_a_publication_is_as_it_is_told"),
    "publish --folder": ("where it goes", f"{PUBLISH}::test_what_cannot_be_published_is_told_and_changes_nothing"),
    "publish --replace": ("whose place it takes", f"{PUBLISH}::test_another_id_needs_to_be_told"),
    "prepare sources": ("what is read", f"{PREPARE}::test_what_cannot_be_read_is_named"),
    "prepare --to": ("where shards go", f"{PREPARE}::test_a_folder_becomes_shards_that_train"),
    "prepare --name": ("what they are called", f"{PREPARE}::test_a_folder_becomes_shards_that_train"),
    "prepare --shard-size": ("how many there are", f"{PREPARE}::test_a_folder_becomes_shards_that_train"),
    "prepare --pixels": ("sizes", f"{HERE}::test_shards_are_as_they_are_told"),
    "prepare --max-pixels": ("which are skipped", f"{HERE}::test_shards_are_as_they_are_told"),
    "prepare --against": ("which are left out", f"{PREPARE}::test_pictures_of_a_test_are_left_out_and_listed"),
    "prepare --picture": ("a column", f"{HERE}::test_columns_are_those_that_are_told"),
    "prepare --caption": ("a column", f"{HERE}::test_columns_are_those_that_are_told"),
    "prepare --label": ("a column", f"{HERE}::test_columns_are_those_that_are_told"),
    "prepare --overwrite": ("earlier shards", f"{HERE}::test_shards_are_as_they_are_told"),
    "prepare --delimiter": ("cells", f"{HOSTILE}::test_prepare_takes_how_a_table_is_written"),
    "prepare --quoting": ("cells", f"{HOSTILE}::test_prepare_takes_how_a_table_is_written"),
    "prepare --encoding": ("characters", f"{HOSTILE}::test_prepare_takes_how_a_table_is_written"),
    "captions --config": ("whose captions", f"{CAPTIONS}::test_figures_of_each_source_are_counted"),
    "captions --output": ("files", f"{CAPTIONS}::test_figures_of_each_source_are_counted"),
    "captions --set": ("a field", f"{CAPTIONS}::test_a_teacher_tells_which_captions_fit"),
    "categories --config": ("whose texts", f"{CATEGORIES}::test_the_command_prints_the_categories_and_writes_them"),
    "categories --set": ("a field", f"{CATEGORIES}::test_the_command_prints_the_categories_and_writes_them"),
    "categories --shown": ("rows printed", f"{CATEGORIES}::test_the_command_prints_the_categories_and_writes_them"),
    "categories --output": ("a file", f"{CATEGORIES}::test_the_command_prints_the_categories_and_writes_them"),
    "corpus --output": ("where it is built", f"{HERE}::test_the_corpus_is_built_where_it_is_told"),
    "corpus --cache": ("where downloads lie", f"{HERE}::test_the_corpus_is_built_where_it_is_told"),
    "corpus --photos": ("a link", f"{HERE}::test_the_corpus_is_built_where_it_is_told"),
    "corpus --sample": ("the sample instead", f"{HERE}::test_the_corpus_is_built_where_it_is_told"),
    "duplicates --train": ("what is looked through", f"{HERE}::test_duplicates_are_of_the_shards_that_are_told"),
    "duplicates --test": ("what for", f"{HERE}::test_duplicates_are_of_the_shards_that_are_told"),
    "attributions --config": ("whose authors", f"{HERE}::test_authors_are_of_the_configuration_and_go_where_told"),
    "attributions --output": ("the file", f"{HERE}::test_authors_are_of_the_configuration_and_go_where_told"),
}  # fmt: skip


def test_every_option_has_a_test_in_which_it_changes_something() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = (
        f"{command} {max(parameter.opts, key=len)}" for command, each in commands.items() for parameter in each.params
    )
    check_table(TABLE, (option for option in options if not option.endswith(" --help")))


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(colours: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that --set and --output gave."""
    folder = tmp_path_factory.mktemp("trained")
    file = write_config(colours, **further(tiny), templates=["a {} thing"])
    run("train", "--config", file, "--output", folder / "mine", "--set", "steps=3", "--no-tensorboard")
    return folder / "mine"


def test_a_run_is_of_its_configuration_and_lies_where_it_is_told(trained: Path, colours: Path, tiny: Path) -> None:
    assert Bundle.load(trained / "bundle").id == "colours"
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 3
    assert not (trained / "tensorboard").exists()
    changes = further(tiny) | {"steps": 2, "name": "another", "optimizer": {"warmup_steps": 1}}
    run("train", "--config", write_config(colours, **changes), "--output", trained.with_name("other"))
    assert (trained.with_name("other") / "tensorboard").is_dir()
    assert Bundle.load(trained.with_name("other") / "bundle").id == "another"


def test_a_dry_run_leaves_nothing(colours: Path, tiny: Path, tmp_path: Path) -> None:
    arguments = "--config", write_config(colours, **further(tiny)), "--output", tmp_path / "run"
    assert "parameters" in run("train", *arguments, "--dry-run")
    assert not (tmp_path / "run").exists()


def test_metrics_are_served_where_they_are_told(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = "--config", write_config(colours, **further(tiny)), "--output", tmp_path / "run"
    told = run("train", *arguments, "--metrics-port", port, "--metrics-host", "localhost", "--no-tensorboard")
    assert f"http://localhost:{port}/metrics" in told
    seen: list[LoggerConfig] = []
    monkeypatch.setattr("training.run.train_and_export", lambda *given: seen.append(given[3]))
    run("train", *arguments)
    assert (seen[0].metrics_port, seen[0].metrics_host) == (None, "127.0.0.1")


def test_what_is_measured_and_by_what(trained: Path, colours: Path, tiny: Path, tmp_path: Path) -> None:
    def measured(*arguments: object) -> dict[str, Any]:
        run("evaluate", *arguments, "--output", tmp_path / "results.json")
        [record] = json.loads((tmp_path / "results.json").read_text())
        return dict(record)

    other = write_shard(tmp_path / "other.tar", {
        f"{number}.{suffix}": content
        for number, name in enumerate(("red", "blue"))
        for suffix, content in (("png", picture(name, number)), ("json", json.dumps({"label": name}).encode()))
    })  # fmt: skip
    first = measured(tiny, "--data", f"{colours}/test-0.tar")
    assert (first["model"], first["pictures"]) == ("tiny", 40)
    assert measured("--data", other)["model"] == "sightword-small"
    assert measured(tiny, "--data", other)["pictures"] == 2
    file = write_config(colours, templates=["a {} thing"], **further(tiny))
    of_config = measured(tiny, "--config", file)
    assert (of_config["dataset"], of_config["settings"]["templates"]) == ("colours", ["a {} thing"])
    assert measured(tiny, "--data", other, "--template", "{} here")["settings"]["templates"] == ["{} here"]
    assert len(measured(tiny, "--data", other, "--template", "imagenet-7")["settings"]["templates"]) == 7


def test_probes_learn_from_what_they_are_told(colours: Path, tiny: Path) -> None:
    data = "--data", f"{colours}/test-0.tar", "--task", "linear-probe"
    with_train = run("evaluate", tiny, *data, "--train", f"{colours}/train-0.tar")
    [row] = [line for line in with_train.splitlines() if "| linear probe |" in line]
    itself = run("evaluate", tiny, *data, "--train", f"{colours}/test-0.tar")
    assert row not in itself or "100.0" in row


def test_other_names_of_classes_change_the_figures(colours: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"red": "blue", "blue": "red"}))
    data = "--data", f"{colours}/test-0.tar"
    value = [float(re.findall(r"top-1 \| ([\d.]+)", run("evaluate", *data, *more))[0])
             for more in ((), ("--class-names", names))]  # fmt: skip
    assert value[1] < value[0]


def test_a_publication_is_as_it_is_told(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the service then does what it is told is tried on a real one, in publishing/."""
    seen: list[tuple[PublishTarget, LabelledImages]] = []
    monkeypatch.setattr(publishing, "publish", lambda bundle, target, labelled: seen.append((target, labelled)))
    to = "publish", tiny, "--to", "http://127.0.0.1:9"
    run(*to, "--check", f"{colours}/test-0.tar")
    run(*to, "--config", write_config(colours, templates=["a {} thing"]), "--folder", tmp_path, "--replace", "other")
    (first, drawn), (second, of_config) = seen
    assert (first, drawn.templates[0], len(drawn.images)) == (
        PublishTarget("http://127.0.0.1:9"),
        "a photo of a {}.",
        40,
    )
    assert (second.folder, second.model, of_config.name) == (tmp_path, "other", "colours")
    assert of_config.templates == ["a {} thing"]
    assert "--check" not in run(*to, "--check", f"{colours}/test-0.tar")
    run(*to, code=1)


def shards(folder: Path) -> dict[str, bytes]:
    found = {}
    for file in sorted(folder.glob("*.tar")):
        with tarfile.open(file) as archive:
            found |= {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    return found


def test_shards_are_as_they_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for number, (name, size) in enumerate((("red", (60, 40)), ("blue", (160, 120)))):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{number}.png").write_bytes(picture(name, number, size))
    out = tmp_path / "out"

    def sizes() -> list[tuple[int, int]]:
        (tmp_path / "one").mkdir(exist_ok=True)
        found = []
        for name, content in shards(out).items():
            if not name.endswith("json"):
                (tmp_path / "one" / name).write_bytes(content)
                found.append(Image.open(tmp_path / "one" / name).size)
        return sorted(found)

    assert "of them were" not in run("prepare", folder, "--to", out)
    assert sizes() == [(60, 40), (160, 120)]
    assert "--overwrite" in run("prepare", folder, "--to", out, "--pixels", 60, code=1)
    said = run("prepare", folder, "--to", out, "--pixels", 60, "--overwrite")
    assert sizes() == [(60, 40), (80, 60)]
    assert (
        "1 of them were reduced or come from a format that training does not read: they are JPEG of quality 92" in said
    )
    assert run("prepare", folder, "--to", out, "--size", 60, "--overwrite") == said
    assert "too many pixels: 1" in run("prepare", folder, "--to", out, "--max-pixels", 5000, "--overwrite")
    assert sizes() == [(60, 40)]


def test_columns_are_those_that_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(COLOURS):
        (tmp_path / f"{name}.png").write_bytes(picture(name, number))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wo", "bild", "was", "art", "filepath", "caption", "label"])
        writer.writerows(
            [f"{name}.png", "x", f"ein {name}", f"art {name}", "none.png", "usual", "usual"] for name in COLOURS
        )
    told = ("--picture", "wo", "--caption", "was", "--label", "art")
    run("prepare", tmp_path / "table.csv", "--to", tmp_path / "out", *told)
    said = [json.loads(content) for name, content in shards(tmp_path / "out").items() if name.endswith("json")]
    assert sorted((each["label"], each["captions"][0]) for each in said) == sorted(
        (f"art {name}", f"ein {name}") for name in COLOURS
    )
    for option in (0, 2, 4):
        wrong = [*told[:option], told[option], "wsa", *told[option + 2 :]]
        assert "no column 'wsa'; it has" in run(
            "prepare", tmp_path / "table.csv", "--to", tmp_path / "no", *wrong, code=1
        )


def test_the_corpus_is_built_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not built in truth, which takes gigabytes of downloads; test_corpus.py tries the parts."""
    built: list[tuple[str, Path, Path]] = []
    monkeypatch.setattr(corpus, "build", lambda output, cache: built.append(("corpus", output, cache)))
    monkeypatch.setattr(corpus, "build_sample", lambda output, cache: built.append(("sample", output, cache)))
    (tmp_path / "elsewhere").mkdir()
    where = "--output", tmp_path / "data" / "corpus", "--cache", tmp_path / "cache"
    run("corpus", *where, "--photos", tmp_path / "elsewhere")
    assert built == [("corpus", tmp_path / "data" / "corpus", tmp_path / "cache")]
    assert (tmp_path / "data" / "photos").resolve() == tmp_path / "elsewhere"
    run("corpus", "--sample", "--cache", tmp_path / "cache")
    assert (built[1][0], built[1][2]) == ("sample", tmp_path / "cache")


def test_duplicates_are_of_the_shards_that_are_told(tmp_path: Path) -> None:
    def shard(name: str, *colours: str) -> Path:
        members = {}
        for number, colour in enumerate(colours):
            members[f"{number}.png"] = picture(colour, 7)
            members[f"{number}.json"] = json.dumps({"label": colour}).encode()
        return write_shard(tmp_path / name, members)

    train, test, other = shard("train-0.tar", "red", "blue"), shard("test-0.tar", "red"), shard("other.tar", "green")
    assert "1 training pictures are also" in run("duplicates", "--train", train, "--test", test, code=1)
    assert "0 training pictures are also" in run("duplicates", "--train", train, "--test", other)
    assert "0 training pictures are also" in run("duplicates", "--train", other, "--test", test)
    both = run("duplicates", "--train", tmp_path / "t*-0.tar", "--test", test, code=1)
    assert "2 training pictures are also" in both


def test_authors_are_of_the_configuration_and_go_where_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        said = {"label": "red", "licence": "CC-BY 4.0", "attribution": f"author {name}", "source": name}
        write_shard(tmp_path / f"{name}.tar", {"0.png": picture("red", 1), "0.json": json.dumps(said).encode()})
        file = write_config(tmp_path, data={"train": [{"shards": [f"{name}.tar"]}]})
        assert run("attributions", "--config", file, "--output", tmp_path / f"{name}.tsv")
        assert f"author {name}" in (tmp_path / f"{name}.tsv").read_text("utf-8")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        run("attributions", "--config", file)
    finally:
        os.chdir(here)
    assert (tmp_path / "ATTRIBUTIONS.tsv").exists()
