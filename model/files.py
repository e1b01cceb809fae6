"""Files as we write and read them: written whole or not at all, and read only where they are regular files.

A file or folder is written as a draft beside its final place, flushed to the disk and renamed, so that neither another
process nor a loss of power ever shows half of one. Reading never waits for a FIFO, never reads a device or without end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

DRAFT, REPLACED = ".partial", ".replaced"  # suffixes of what a killed process may leave behind
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # of folders, on this file system


class WriteError(OSError):
    """A file or folder could not be written, what was there before is intact, and no draft is left.

    `errno` is that of the failure and `reason` its text.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.reason: str = error.reason if isinstance(error, WriteError) else str(error)
        super().__init__(f"{path} cannot be written: {self.reason}")
        self.errno = error.errno


class NotRegularError(OSError):
    """What lies there is no regular file; the message says what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EINVAL, message)

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def write_atomically(file: Path, *, concurrent: bool = False) -> Iterator[Path]:
    """The path of a draft to write, which replaces `file` when the block ends well and is removed when it does not.

    Permissions are those that the block gives the draft, by default what the umask leaves. Where several processes
    may write the same file at once (`concurrent`), each has a draft of its own, a hidden file, and the last one to end
    wins; otherwise the draft is `file` with `.partial` appended, and one that a killed process left is written anew.

    Raises WriteError for an OSError in the block or while it is put in place; one that names a file elsewhere, which
    the block read, is raised as it is.
    """
    draft = _draft_of(file, concurrent)
    try:
        draft.unlink(missing_ok=True)
        yield draft
        _flush(draft)
        draft.replace(file)
        _flush(file.parent)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_about(draft, error):
            raise WriteError(file, error) from error
        raise


@contextmanager
def replace_folder(folder: Path, *, concurrent: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` when the block ends well and is removed otherwise.

    Parents that are missing are made, and removed again if it fails. Where several processes may make the same folder
    at once (`concurrent`), each has a draft of its own and the first one to end wins: the others' are removed.
    Otherwise the draft is `folder` with `.partial` appended, and what a killed process left there is removed first.

    Raises WriteError for an OSError in the block or while it is put in place, as `write_atomically` does; `folder` is
    then as it was.
    """
    draft, parents = _draft_of(folder, concurrent), list[Path]()
    try:
        parents += [parent for parent in folder.parents if not parent.exists()]
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        for inner, _, files in os.walk(draft):
            for path in (*(Path(inner, name) for name in files), Path(inner)):
                _flush(path)
        if concurrent:
            _keep_the_first(draft, folder)
        else:
            _swap(draft, folder)
        _flush(folder.parent)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # another may have written there since
            for parent in parents:
                parent.rmdir()
        if isinstance(error, OSError) and _is_about(draft, error):
            raise WriteError(folder, error) from error
        raise


def open_regular_file(path: Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading, at once.

    Raises NotRegularError for a folder, FIFO, socket or device, and for a symbolic link unless links are followed;
    OSError for a file that cannot be opened.
    """
    # Opened in the usual way, a FIFO would be waited for until somebody writes into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise NotRegularError("it is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise NotRegularError("it is a socket") from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: Path, most_bytes: int, *, follow_links: bool = True) -> tuple[bytes, os.stat_result]:
    """The content, of which at most `most_bytes` + 1 are read, and the status of that very file. Raises as above."""
    with open_regular_file(path, follow_links=follow_links) as file:
        return file.read(most_bytes + 1), os.fstat(file.fileno())


def remove_file(file: Path) -> None:
    """Remove a file if it is there, so that it does not come back after a loss of power."""
    try:
        file.unlink()
    except FileNotFoundError:
        return
    _flush(file.parent)


@contextmanager
def exclusive_lock(file: Path, held: Exception) -> Iterator[None]:
    """Within it no other process is in the lock of `file`, which is made and stays; it ends with the process at last.

    Raises `held`, without waiting, while another process is; OSError where the file system has no locks.
    """
    with file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise held from None
        yield


def _is_about(draft: Path, error: OSError) -> bool:
    """Whether what failed is the writing: a full disk names no file at all."""
    if not isinstance(error.filename, str):
        return True
    return Path(error.filename).absolute().is_relative_to(draft.parent.absolute())


def _draft_of(path: Path, concurrent: bool) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{DRAFT}" if concurrent else f"{path.name}{DRAFT}")


def _swap(draft: Path, folder: Path) -> None:
    """Two renames, as no call of Python's exchanges folders; `folder` is back in place where the second one fails."""
    replaced = folder.with_name(f"{folder.name}{REPLACED}")
    shutil.rmtree(replaced, ignore_errors=True)
    if not folder.exists():
        draft.rename(folder)
        return
    folder.rename(replaced)
    try:
        draft.rename(folder)
    except BaseException:
        replaced.rename(folder)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _keep_the_first(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(draft, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the kernel write it to the disk, so that a rename never outlives what it names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
