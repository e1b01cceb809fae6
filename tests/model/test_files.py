"""Files and folders that are written whole or not at all: on full disks, after a kill, and by several processes."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from model.files import WriteError, exclusive_lock, replace_folder, write_atomically

ROOT = Path(__file__).parents[2]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was flushed to the disk, in that order."""
    names: list[str] = []

    def record(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", record)
    return names


def write(file: Path, content: str, concurrent: bool = False) -> None:
    with write_atomically(file, concurrent=concurrent) as draft:
        draft.write_text(content)


def fill(folder: Path, **contents: str) -> None:
    with replace_folder(folder) as draft:
        for name, content in contents.items():
            (draft / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_and_flushed_before_its_folder(tmp_path: Path, flushed: list[str]) -> None:
    file = tmp_path / "kept"
    file.write_text("old")
    with write_atomically(file) as draft:
        draft.write_text("new")
        assert file.read_text() == "old"
        assert not flushed
    assert contents(tmp_path) == {"kept": "new"}
    assert flushed == ["kept.partial", tmp_path.name]


def test_permissions_are_those_of_the_umask_or_of_the_block(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "default", "")
        with write_atomically(tmp_path / "own") as draft:
            draft.touch()
            draft.chmod(0o604)
        fill(tmp_path / "folder")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"default": 0o640, "own": 0o604, "folder": 0o750}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no number")])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    file, folder = tmp_path / "kept", tmp_path / "folder"
    write(file, "old")
    fill(folder, a="old")

    def write_half(draft: Path) -> None:
        draft.write_text("half")
        raise error

    with pytest.raises(type(error)), write_atomically(file) as draft:
        write_half(draft)
    with pytest.raises(type(error)), replace_folder(folder) as draft:
        write_half(draft / "b")
    with pytest.raises(type(error)), replace_folder(tmp_path / "not" / "there" / "yet") as draft:
        write_half(draft / "c")
    assert file.read_text() == "old"
    assert contents(folder) == {"a": "old"}
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "folder"}


def test_a_full_disk_leaves_what_was_there_and_names_the_file(small_disk: Path) -> None:
    file, folder = small_disk / "kept", small_disk / "folder"
    write(file, "old")
    fill(folder, a="old")
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    for concurrent in (False, True):
        with pytest.raises(WriteError) as refused:
            write(file, "new" * 4096, concurrent)
        assert refused.value.errno == errno.ENOSPC
        assert str(refused.value) == f"{file} cannot be written: {refused.value.reason}"
        assert os.strerror(errno.ENOSPC) in refused.value.reason
    with pytest.raises(WriteError, match=f"^{folder} cannot be written: .*No space left"):
        fill(folder, a="new" * 4096)
    outer = f"^{folder} cannot be written: .Errno 28. No space left on device$"
    with pytest.raises(WriteError, match=outer), replace_folder(folder) as draft:
        write(draft / "a", "new" * 4096)
    assert file.read_text() == "old"
    assert contents(folder) == {"a": "old"}
    assert {path.name for path in small_disk.iterdir()} == {"kept", "folder", "filler"}


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(WriteError) as refused:
            write(tmp_path / "kept", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError) as refused:
        write(tmp_path / "folder", "x")
    assert refused.value.errno == errno.EISDIR
    with pytest.raises(WriteError) as refused:
        fill(tmp_path / "file" / "folder")
    assert refused.value.errno == errno.ENOTDIR
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("write", [write_atomically, replace_folder])
def test_what_could_not_be_read_is_not_called_unwritable(write: Callable[[Path], Any], tmp_path: Path) -> None:
    elsewhere = tmp_path / "data" / "missing.tar"
    with pytest.raises(FileNotFoundError) as caught, write(tmp_path / "run" / "bundle"):
        elsewhere.read_bytes()
    assert caught.value.filename == str(elsewhere)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_behind_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "kept.partial").write_text("half")
    (tmp_path / "folder.partial").mkdir()
    (tmp_path / "folder.partial" / "b").write_text("half")
    (tmp_path / "folder.replaced").mkdir()
    (tmp_path / "folder").mkdir()
    write(tmp_path / "kept", "new")
    fill(tmp_path / "folder", a="new")
    assert contents(tmp_path / "folder") == {"a": "new"}
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "folder"}


def test_a_folder_is_flushed_with_all_that_is_in_it(tmp_path: Path, flushed: list[str]) -> None:
    with replace_folder(tmp_path / "folder") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "b").touch()
        (draft / "a").touch()
        assert not flushed
    assert sorted(flushed[:-1]) == ["a", "b", "folder.partial", "inner"]
    assert flushed[-1] == tmp_path.name


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "folder", a="old")
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if path.suffix == ".partial":
            raise PermissionError(errno.EACCES, "no")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(WriteError, match="folder cannot be written"):
        fill(tmp_path / "folder", a="new")
    assert contents(tmp_path / "folder") == {"a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_several_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    written = [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(pool.map(lambda content: write(tmp_path / "kept", content, concurrent=True), written))
            assert (tmp_path / "kept").read_text() in written
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_of_several_makers_of_one_folder_the_first_wins(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with replace_folder(folder, concurrent=True) as late:
        (late / "a").write_text("late")
        with replace_folder(folder, concurrent=True) as early:
            (early / "a").write_text("early")
    assert contents(folder) == {"a": "early"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_system_that_cannot_flush_folders_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write(tmp_path / "kept", "new")
    fill(tmp_path / "folder", a="new")
    assert contents(tmp_path / "folder") == {"a": "new"}


def test_a_lock_is_of_one_process_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    code = "import sys, time; from pathlib import Path; from model.files import exclusive_lock\n"
    code += "with exclusive_lock(Path(sys.argv[1]), OSError()): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(WriteError, match="somebody"), exclusive_lock(file, WriteError(file, OSError("somebody"))):
            pytest.fail("two are within it")
        other.kill()
        other.wait()
        with exclusive_lock(file, OSError()), pytest.raises(BlockingIOError, match="of the block"):
            raise BlockingIOError("of the block")
    with exclusive_lock(file, OSError()):
        assert file.exists()
