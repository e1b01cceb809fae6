"""All files of a folder in order, however many there are."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from model.data import walk
from model.data.skipped_samples import SkippedSamples
from model.data.walk import SortedNames, regular_files

NAMES = ("b.jpg", "a.jpg", "é.jpg", "new\nline.jpg", "😀.jpg")


def test_many_names_are_sorted_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("", "z", "c/d"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in (*NAMES, os.fsdecode(b"caf\xe9.jpg")):
            (tmp_path / folder / name).write_bytes(b"x")
    in_memory = list(regular_files(tmp_path, SkippedSamples()))
    assert len(in_memory) == 18
    assert [file.parent for file in in_memory[::6]] == [tmp_path, tmp_path / "c" / "d", tmp_path / "z"]
    monkeypatch.setattr(walk, "SORTED_NAMES", 2)
    assert list(regular_files(tmp_path, SkippedSamples())) == in_memory


def test_many_names_take_the_memory_of_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "SORTED_NAMES", 3_000)
    tracemalloc.start()
    try:
        names = SortedNames()
        for number in range(60_000):
            names.add(f"{number * 7919 % 60_000:09}.jpg")
        assert all(f"{number:09}.jpg" == name for number, name in enumerate(names))
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b.jpg").write_bytes(b"x")
    listed = os.scandir

    def refuse(path: Path) -> object:  # root may read everything
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    skipped = SkippedSamples()
    assert list(regular_files(tmp_path, skipped)) == [tmp_path / "b.jpg"]
    assert dict(skipped.passed_over) == {"a folder that cannot be read (Permission denied)": 1}


def test_names_that_find_no_room_on_the_disk_are_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    monkeypatch.setattr(walk, "SORTED_NAMES", 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(regular_files(tmp_path, SkippedSamples()))
