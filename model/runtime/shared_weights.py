"""Files that several processes map, so that weights are in memory once: written by the first, removed after the last.

They lie in a folder that nobody but this user may look into, as long as somebody has them open: each holds a lock on
the record of the files, which names their SHA-256. Whoever finds a record that nobody holds removes it and its files.
A process that dies holds nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path

from model.files import open_regular_file, read_regular_file

RECORD = ".json"
MAX_RECORD_BYTES = 2**16
WAIT_S, POLL_S = 900.0, 0.05  # for another process that writes them
SPARE_BYTES = 64 * 2**20  # that are left to others where the files lie


class SharedWeightsError(Exception):
    """Files cannot be shared; the message says why."""


class HeldFiles:
    """Files that stay where they are until `close`."""

    def __init__(self, folder: Path, record: FileIO, close: Callable[[], None]) -> None:
        self.folder, self._record, self._close = folder, record, close

    def read(self, name: str) -> bytes:
        """The content of one, of those that are read as a whole. Raises SharedWeightsError."""
        size, sha256 = _read_record(self._record)[name]
        content, _ = read_regular_file(self.folder / name, size, follow_links=False)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise SharedWeightsError(f"{self.folder / name} was altered")
        return content

    def close(self) -> None:
        """Let them go; they are removed where nobody else holds them. What is mapped stays in memory."""
        self._record.close()
        self._close()


class SharedWeights:
    """A folder of such files, for the processes of one service."""

    def __init__(self, folder: Path) -> None:
        """`folder` is there, and of this user alone."""
        self._folder = folder

    def hold(self, key: str, needed_bytes: int, write: Callable[[Path], None]) -> HeldFiles:
        """The files of a key, verified; where there are none, `write` fills a folder with them, of `needed_bytes`.

        Raises SharedWeightsError where there is no room, where they were altered, or where another process has been
        writing them for too long; and what `write` raises.
        """
        self.sweep()
        ends = time.monotonic() + WAIT_S
        while time.monotonic() < ends:
            record = self._open_record(key)
            try:
                if self._is_locked(record, key, fcntl.LOCK_SH) and self._is_written(record, key, needed_bytes, write):
                    self._verify(key, _read_record(record))
                    return HeldFiles(self._folder / key, record, self.sweep)
            except BaseException:
                record.close()
                raise
            record.close()
            time.sleep(POLL_S)
        raise SharedWeightsError(f"another process has been writing them for {WAIT_S:g} s")

    def sweep(self) -> None:
        """Remove what nobody holds."""
        for path in self._folder.glob(f"*{RECORD}"):
            with suppress(OSError):  # another sweeps, too
                record = FileIO(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+")
                if self._is_locked(record, path.stem, fcntl.LOCK_EX):
                    shutil.rmtree(self._folder / path.stem, ignore_errors=True)
                    path.unlink()
                record.close()

    def _open_record(self, key: str) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return FileIO(os.open(self._folder / f"{key}{RECORD}", flags, 0o600), "r+")
        except OSError as error:
            raise SharedWeightsError(f"{self._folder}: {error.strerror}") from error

    def _is_locked(self, record: FileIO, key: str, how: int) -> bool:
        """Lock it, if nobody else has, and it was not removed before."""
        with suppress(OSError):
            fcntl.flock(record, how | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(record.fileno()), os.lstat(self._folder / f"{key}{RECORD}"))
        return False

    def _is_written(self, record: FileIO, key: str, needed_bytes: int, write: Callable[[Path], None]) -> bool:
        """Whether the files are there, and locked for reading; they are written where nobody else does."""
        if _read_record(record):
            return True
        # Between one lock and the next, others may have written or removed them.
        if not self._is_locked(record, key, fcntl.LOCK_EX):
            return False
        if not _read_record(record):
            self._write(key, record, needed_bytes, write)
        return self._is_locked(record, key, fcntl.LOCK_SH)

    def _write(self, key: str, record: FileIO, needed_bytes: int, write: Callable[[Path], None]) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed_bytes + SPARE_BYTES:
            raise SharedWeightsError(
                f"{self._folder} has {free // 10**6} MB free, and {(needed_bytes + SPARE_BYTES) // 10**6} MB are needed"
            )
        folder = self._folder / key
        shutil.rmtree(folder, ignore_errors=True)  # of one that died over it
        try:
            folder.mkdir(0o700)
            write(folder)
            files = {path.name: _describe(path) for path in folder.iterdir()}
            record.truncate(0)
            os.pwrite(record.fileno(), json.dumps(files).encode(), 0)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            record.truncate(0)
            raise

    def _verify(self, key: str, files: Mapping[str, tuple[int, str]]) -> None:
        for name, expected in files.items():
            path = self._folder / key / name
            try:
                found = _describe(path)
            except OSError as error:
                raise SharedWeightsError(f"{path}: {error}") from error
            if found != expected:
                raise SharedWeightsError(f"{path} was altered")


def _describe(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file, which nobody is to write any more."""
    with open_regular_file(path, follow_links=False) as file:
        os.fchmod(file.fileno(), stat.S_IRUSR)
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _read_record(record: FileIO) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of each file, by name; nothing where they are not all written."""
    try:
        found = json.loads(os.pread(record.fileno(), MAX_RECORD_BYTES, 0))
    except ValueError:  # also of one that died over it
        return {}
    return {name: (size, sha256) for name, (size, sha256) in found.items()}
