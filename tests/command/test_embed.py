"""`sightword embed`: what is taken, what is written, and what the exit code says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from benchmarks.service_process import Running, free_port
from sightword.command.vector_file import VectorFile, read_vectors, write_vectors
from sightword.local.embedder import Local
from tests.command.conftest import IN_PHOTOS, KEY, Command


@pytest.mark.parametrize("suffix", ["parquet", "npy", "jsonl"])
def test_a_folder_becomes_a_file_of_vectors(suffix: str, command: Command, photos: Path, local: Local) -> None:
    done = command("embed", photos, "--text", "a cat", "-o", f"v.{suffix}")
    assert (done.code, done.out) == (0, "")
    assert f"4 vectors of {local.bundle.id}, 256 dimensions, in v.{suffix}" in done.err
    kept = read_vectors(Path(f"v.{suffix}"))
    assert kept.keys == [*IN_PHOTOS, "a cat"]
    assert (kept.model, kept.digest) == (local.bundle.id, local.bundle.digest)
    np.testing.assert_array_equal(kept.vectors, local.embed([*map(Path, IN_PHOTOS), "a cat"]))
    left = {f"v.{suffix}", "photos"} | ({"v.npy.keys.json"} if suffix == "npy" else set())
    assert {path.name for path in Path().iterdir()} == left  # and no draft


def test_parquet_is_read_by_others(command: Command, photos: Path) -> None:
    assert command("embed", photos, "-o", "v.parquet").code == 0
    table = parquet.read_table("v.parquet")
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "key": "string",
        "embedding": "fixed_size_list<element: float>[256]",
    }
    assert table["key"].to_pylist() == IN_PHOTOS


def test_lines_for_programs_have_errors_in_the_place_of_vectors(command: Command, photos: Path, local: Local) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = command("embed", photos)
    assert done.code == 1
    assert [line["key"] for line in done.lines] == ["photos/broken.jpg", *IN_PHOTOS]
    broken, *good = done.lines
    assert broken["error"]["code"] == "invalid_image"
    np.testing.assert_array_equal(
        np.array([line["embedding"] for line in good], np.float32), local.embed([Path(name) for name in IN_PHOTOS])
    )
    named, counted = done.err.splitlines()
    assert named.startswith("photos/broken.jpg: ")
    assert counted == "1 of 4 items failed"


def test_a_broken_picture_spares_the_rest_of_a_file(command: Command, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    done = command("embed", photos, "-o", "v.npy")
    assert done.code == 1
    assert "1 of 4 items failed" in done.err
    assert read_vectors(Path("v.npy")).keys == IN_PHOTOS


def test_where_all_are_broken_what_was_there_stays(command: Command, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    Path("v.jsonl").write_text("of before")
    done = command("embed", "photos/broken.jpg", "-o", "v.jsonl")
    assert (done.code, Path("v.jsonl").read_text()) == (1, "of before")
    assert "v.jsonl was not written" in done.err


def test_texts_come_from_standard_input(command: Command, local: Local) -> None:
    done = command("embed", "-", stdin="a cat\n\n  ein Hund 🐕 \na cat\n")
    assert done.code == 0
    assert [line["key"] for line in done.lines] == ["a cat", "ein Hund 🐕"]
    np.testing.assert_array_equal(np.array(done.lines[1]["embedding"], np.float32), local.embed(["ein Hund 🐕"])[0])


def test_patterns_and_files_are_taken_once(command: Command, photos: Path) -> None:
    done = command("embed", "photos/*.jpg", photos / "coffee.jpg", "photos/**/rocket.jpg")
    assert [line["key"] for line in done.lines] == IN_PHOTOS


def test_fewer_dimensions(command: Command, local: Local) -> None:
    [line] = command("embed", "--text", "a cat", "--dimensions", 64).lines
    np.testing.assert_array_equal(np.array(line["embedding"], np.float32), local.embed(["a cat"], dimensions=64)[0])


def test_long_texts_are_cut_where_that_is_asked_for(command: Command) -> None:
    refused = command("embed", "--text", "word " * 500)
    assert (refused.code, refused.lines[0]["error"]["code"]) == (1, "text_too_long")
    assert command("embed", "--text", "word " * 500, "--truncate").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embed"], "nothing to embed"),
        (["embed", "nowhere.jpg"], "There is no file or folder nowhere.jpg"),
        (["embed", "photos/.hidden/../more/../../photos/*.gif"], "No file matches"),
        (["embed", "photos", "-o", "vectors.csv"], "ends in none of .parquet, .npy, .jsonl"),
        (["embed", "photos", "-o", "nowhere/vectors.npy"], "There is no folder nowhere"),
        (["embed", "photos", "--dimensions", "0"], "--dimensions"),
        (["embed", "photos", "--dimensions", "4096"], "256 dimensions"),
        (["embed", "photos", "--url", "localhost:8000"], "http://"),
        (["embed", "-"], "not UTF-8"),
    ],
)
def test_what_has_to_change_in_the_command(arguments: list[str], said: str, command: Command, photos: Path) -> None:
    done = command(*arguments, stdin=b"\xff\xfe")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_folder_without_pictures_is_no_success(command: Command, tmp_path: Path) -> None:
    done = command("embed", tmp_path)
    assert done.code == 2
    assert "There are no pictures in" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "ViT-L-14"], "python -m model pull ViT-L-14"),
        (["--url", f"http://127.0.0.1:{free_port()}"], "Nothing answers"),
        (["--provider", "tensorrt"], "pip install"),
    ],
)
def test_what_is_not_there(arguments: list[str], said: str, command: Command) -> None:
    done = command("embed", "--text", "a cat", *arguments)
    assert (done.code, done.out) == (3, "")
    assert said in done.err


def test_without_pyarrow_it_says_what_to_install_before_anything_is_computed(
    command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = command("embed", photos, "-o", "v.parquet", "--model", "nothing-of-this-name")
    assert done.code == 3
    assert "[parquet]" in done.err
    assert ".npy or .jsonl" in done.err


def test_a_service_gives_the_same(
    command: Command, photos: Path, service: Running, local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "broken.jpg").write_bytes(b"")
    assert command("embed", photos, "--url", service.url).code == 3  # without a key
    monkeypatch.setenv("SIGHTWORD_URL", service.url)
    monkeypatch.setenv("SIGHTWORD_API_KEY", KEY)
    done = command("embed", photos, "-o", "v.npy")
    assert done.code == 1
    kept = read_vectors(Path("v.npy"))
    assert (kept.keys, kept.digest) == (IN_PHOTOS, local.bundle.digest)
    np.testing.assert_allclose(kept.vectors, local.embed([Path(name) for name in IN_PHOTOS]), atol=1e-6)
    assert command("embed", photos, "--model", "another").code == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.jsonl", b"no JSON\n", "holds no vectors of `sightword embed`"),
        ("v.jsonl", b"", "holds no vectors"),
        ("v.jsonl", b'{"key": "a"}\n', "holds no vectors"),
        ("v.npy", b"", "v.npy.keys.json is missing"),
        ("v.parquet", b"PAR1", "holds no vectors"),
        ("v.parquet", None, "There is no file"),
    ],
)
def test_files_that_are_none_are_refused(
    name: str, content: bytes | None, said: str, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    done = command("search", file, "a cat")
    assert done.code == 2
    assert said in done.err


def test_a_pickle_is_not_opened(command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "v.npy.keys.json").write_text(json.dumps({"model": "m", "digest": "d", "keys": ["a"]}))
    done = command("search", tmp_path / "v.npy", "a cat")
    assert done.code == 2
    assert "allow_pickle" in done.err


def test_lines_of_two_models_are_refused(command: Command, tmp_path: Path) -> None:
    for model in ("one", "other"):
        write_vectors(tmp_path / f"{model}.jsonl", VectorFile(["a"], np.ones((1, 2), np.float32), model, model))
    both = tmp_path / "both.jsonl"
    both.write_bytes((tmp_path / "one.jsonl").read_bytes() + (tmp_path / "other.jsonl").read_bytes())
    assert "line 2: vectors of another model" in command("search", both, "a cat").err


def test_a_full_disk_is_said_and_leaves_what_was_there(command: Command, small_disk: Path) -> None:
    (small_disk / "v.npy").write_bytes(b"of before")
    texts = "".join(f"text {number}\n" for number in range(1500))  # 1.5 MB of vectors
    done = command("embed", "-", "-o", small_disk / "v.npy", stdin=texts)
    assert (done.code, (small_disk / "v.npy").read_bytes()) == (3, b"of before")
    assert f"{small_disk}/v.npy cannot be written" in done.err
    assert {path.name for path in small_disk.iterdir()} == {"v.npy"}
