"""Folders as they are: what is embedded of them, and what is told of the rest."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from model.data.skipped_samples import SkippedSamples
from service.bulk.job import JobRequest
from service.bulk.sources import Kind, SourceError, SourceOptions, plan, read
from tests.service.bulk.reading import read_all


def test_pictures_of_a_folder_are_keyed_by_their_paths(tmp_path: Path) -> None:
    names = ["a.jpg", "b/c.PNG", "b/d/e.webp", "z.tiff"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    items = read_all(tmp_path)
    assert [item.key for item in items] == ["a.jpg", "z.tiff", "b/c.PNG", "b/d/e.webp"]
    assert all(item.payload == item.key.encode() and item.source == str(tmp_path / item.key) for item in items)
    assert [part.rows for part in plan([tmp_path], SourceOptions(part_rows=3))] == [3, 1]


def test_what_is_no_picture_is_counted_by_reason(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", "Thumbs.db", "notes.txt", "README", ".hidden/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    skipped = SkippedSamples()
    assert [item.key for item in read_all(tmp_path, skipped=skipped)] == ["a.jpg"]
    assert dict(skipped.passed_over) == {
        "hidden or made by the system": 3,
        "another suffix, .txt": 1,
        "without a suffix": 1,
        "no file but a pipe, socket or device": 1,
        "cannot be looked at (No such file or directory)": 1,
    }


def test_files_that_cannot_be_read_are_items_with_the_reason(tmp_path: Path) -> None:
    for name in ("empty.png", "gone.png", "good.png", "large.png"):
        (tmp_path / name).write_bytes(b"" if name == "empty.png" else b"x" * (11 if name == "large.png" else 10))
    options = SourceOptions(max_body_bytes=10)
    [part] = plan([tmp_path], options)
    (tmp_path / "gone.png").unlink()
    errors = {item.key: item.error for item in read(part, options)}
    assert errors == {
        "empty.png": "the file is empty",
        "gone.png": "the file cannot be read: No such file or directory",
        "good.png": None,
        "large.png": "it has more than 10 bytes",
    }


@pytest.mark.parametrize(("kind", "name"), [("image", "a.jpg"), ("text", "a.txt")])
def test_a_disk_that_is_not_mounted_any_more_ends_the_job(tmp_path: Path, kind: Kind, name: str) -> None:
    """Else all that is left would be errors for good, in parts that are done."""
    folder, options = tmp_path / "disk", SourceOptions(kind=kind)
    folder.mkdir()
    (folder / name).write_text("a cat")
    [part] = plan([folder], options)
    mounted = folder.rename(tmp_path / "elsewhere")
    for _ in range(2):  # without its folder, and with an empty one in its place
        with pytest.raises(OSError, match="is gone or empty: is its disk mounted"):
            list(read(part, options))
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    mounted.rename(folder)
    assert [item.error for item in read(part, options)] == [None]


def test_descriptors_that_are_missing_are_no_error_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    [part] = plan([tmp_path], SourceOptions())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.open(tmp_path, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            list(read(part, SourceOptions()))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path\na.jpg\n", "utf-8")
    with pytest.raises(SourceError, match=r"--root: there is no folder .*nowhere"):
        list(plan([tmp_path / "t.csv"], SourceOptions(root=tmp_path / "nowhere")))


def test_a_name_that_is_not_utf_8_is_found_again(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"coffee")
    [item] = read_all(tmp_path)
    assert (item.key, item.payload) == ("caf\\xe9.jpg", b"coffee")


def test_an_input_whose_name_is_not_utf_8_is_a_job_of_its_own(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"caf\xe8"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        folder.mkdir()
        (folder / "a.jpg").write_bytes(name)
    inputs = sorted(tmp_path.iterdir())
    items = read_all(*inputs)
    assert [(item.key, item.payload) for item in items] == [
        ("caf\\xe8/a.jpg", b"caf\xe8"),
        ("caf\\xe9/a.jpg", b"caf\xe9"),
    ]
    one, other = (JobRequest((str(each),), "o", SourceOptions(root=each)).described() for each in inputs)
    assert json.loads(json.dumps(one)) == one != other


def test_texts_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n", "utf-16")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    a, b = read_all(tmp_path, options=SourceOptions(kind="text"))
    assert (a.payload, a.error) == ("a cat", None)
    assert b.payload is None
    assert "byte 0xE9 at 3 is not utf-8" in str(b.error)


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(SourceError, match=r"there is no .*picturs: did you mean .*pictures"):
        list(plan([tmp_path / "picturs"], SourceOptions()))
