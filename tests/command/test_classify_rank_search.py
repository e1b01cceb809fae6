"""`sightword classify`, `rank` and `search`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.service_process import Running
from sightword.command.vector_file import VectorFile, write_vectors
from sightword.local.embedder import Local
from tests.command.conftest import IN_PHOTOS, KEY, Command

LABELS = ["cat", "cup of coffee", "rocket"]


def test_pictures_are_classified_as_by_the_model(command: Command, photos: Path, local: Local) -> None:
    done = command("classify", photos, "--labels", ",".join(LABELS), "--top", 2)
    assert done.code == 0
    expected = local.classify([Path(name) for name in IN_PHOTOS], LABELS, top_k=2)
    assert [line["key"] for line in done.lines] == IN_PHOTOS
    assert [line["label"] for line in done.lines] == [each.label for each in expected]
    assert [len(line["predictions"]) for line in done.lines] == [2, 2, 2]
    assert done.lines[1]["score"] == pytest.approx(expected[1].score)


def test_labels_come_from_a_file_with_their_commas(command: Command, photos: Path) -> None:
    Path("labels.txt").write_text("a cat, asleep\n\ncup of coffee\n")
    [line] = command("classify", photos / "coffee.jpg", "--labels-file", "labels.txt", "--labels", "rocket").lines
    assert {each["label"] for each in line["predictions"]} == {"rocket", "a cat, asleep", "cup of coffee"}


def test_none_of_them_is_an_answer(command: Command, photos: Path) -> None:
    options = ["--labels", "submarine", "--multi-label", "--threshold", "0.999"]
    [line] = command("classify", photos / "coffee.jpg", *options).lines
    assert (line["label"], line["score"], line["predictions"]) == (None, None, [])


def test_a_broken_picture_spares_the_rest(command: Command, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    for arguments in (["classify", photos, "--labels", "cat,dog"], ["rank", photos, "a cat"]):
        done = command(*arguments)
        assert done.code == 1
        assert len([line for line in done.lines if "error" not in line]) == 3
        assert done.err.splitlines()[0].startswith("photos/broken.jpg: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "photos"], "--labels"),
        (["classify", "photos", "--labels", " , "], "--labels"),
        (["classify", "photos", "--labels", "a,b", "--label-set", "pets"], "--label-set"),
        (["classify", "photos", "--label-set", "pets"], "A service stores label sets"),
        (["classify", "photos", "--labels", "cat,cat"], "labels.1"),
        (["classify", "photos", "--labels", "cat", "--template", "no place"], "exactly one {}"),
        (["classify", "photos", "--labels", "cat", "--template-set", "nowhere"], "imagenet"),
        (["rank", "photos"], "last what they are to fit"),
        (["rank", "photos", "nowhere.jpg"], "There is no file nowhere.jpg"),
        (["search", "v.txt", "a cat"], "ends in none of"),
    ],
)
def test_what_has_to_change_in_the_command(arguments: list[str], said: str, command: Command, photos: Path) -> None:
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("query", ["a cat", "photos/chelsea.jpg"])
def test_rank_and_search_agree_with_the_model(query: str, command: Command, photos: Path, local: Local) -> None:
    item = Path(query) if query.endswith(".jpg") else query
    expected = local.rank(item, [Path(name) for name in IN_PHOTOS], top_n=2)
    ranked = command("rank", photos, query, "--top", 2)
    assert command("embed", photos, "-o", "v.parquet").code == 0
    found = command("search", "v.parquet", query, "--top", 2)
    assert (ranked.code, found.code) == (0, 0)
    for done in (ranked, found):
        assert [line["key"] for line in done.lines] == [IN_PHOTOS[each.index] for each in expected]
        for line, each in zip(done.lines, expected, strict=True):
            assert (line["cosine"], line["score"]) == pytest.approx((each.cosine, each.score), abs=1e-5)
    assert found.lines[0]["key"] == "photos/chelsea.jpg"


def test_what_embed_printed_can_be_searched(command: Command, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    Path("v.jsonl").write_text(command("embed", photos).out)
    [line] = command("search", "v.jsonl", "a cat", "--top", 1).lines
    assert line["key"] == "photos/chelsea.jpg"


def test_vectors_with_fewer_dimensions_are_searched_in_those(command: Command, photos: Path) -> None:
    assert command("embed", photos, "-o", "v.npy", "--dimensions", 128).code == 0
    [line] = command("search", "v.npy", "a cat", "--top", 1).lines
    assert line["key"] == "photos/chelsea.jpg"


def test_vectors_of_another_model_are_refused(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "v.npy"
    write_vectors(file, VectorFile(["a"], np.ones((1, 256), np.float32) / 16, "ViT-Z", "another-digest"))
    done = command("search", file, "a cat")
    assert (done.code, done.out) == (2, "")
    assert "holds vectors of ViT-Z" in done.err
    assert "--model" in done.err


def test_label_sets_of_a_service(
    command: Command, photos: Path, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTWORD_URL", service.url)
    monkeypatch.setenv("SIGHTWORD_API_KEY", KEY)
    assert command("label-sets", "list").out == ""
    stored = command("label-sets", "put", "pets", "--labels", "cat,dog", "--template", "a photo of a {}.")
    expected = {"name": "pets", "labels": ["cat", "dog"], "templates": ["a photo of a {}."]}
    assert (stored.code, stored.lines) == (0, [expected])
    assert command("label-sets", "list").lines == [{"name": "pets"}]
    assert command("label-sets", "get", "pets").lines == [expected]
    [line] = command("classify", photos / "chelsea.jpg", "--label-set", "pets").lines
    assert line["label"] == "cat"
    assert command("label-sets", "delete", "pets").code == 0
    gone = command("label-sets", "delete", "pets")
    assert (gone.code, gone.err) == (1, "There was no label set pets.\n")
    assert command("label-sets", "get", "pets").code == 2
    assert command("label-sets", "put", "pets").code == 2
    ranked = command("rank", photos, "a cat")
    assert (ranked.code, ranked.lines[0]["key"]) == (0, "photos/chelsea.jpg")


def test_names_that_are_no_unicode_are_written(command: Command, photos: Path) -> None:
    (photos / "coffee.jpg").rename(photos / os.fsdecode(b"caf\xe9.jpg"))
    done = command("embed", photos, "-o", "v.parquet")
    assert done.code == 0
    assert json.loads(command("search", "v.parquet", "cup of coffee", "--top", 1).out)["key"] == "photos/caf\ufffd.jpg"
