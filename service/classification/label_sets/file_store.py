"""Label sets as JSON files in a folder, one each; processes of one machine may share it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from model.files import NotRegularError, WriteError, read_regular_file, write_atomically
from service.classification.label_sets.store import (
    MAX_DOCUMENT_BYTES,
    LabelSet,
    LimitError,
    StoreError,
    decode,
    is_name,
)
from service.schema.answers import LabelSetSummary
from service.threads import SerialThread

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
SUFFIX = ".json"
MAX_ENTRIES = 10_000  # of the folder: one that holds more is most likely used for something else
MAX_WARNINGS = 20  # in the log, about files that are not label sets
LOCK_TIMEOUT_S, LOCK_POLL_S = 5.0, 0.01
_KINDS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.EROFS: "readonly",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.ENOTDIR: "occupied",
    errno.EISDIR: "occupied",
    errno.EEXIST: "occupied",
}
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of this file system


class FileStore:
    """The folder is created with the first label set. One daemon thread does all file operations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = SerialThread("label-sets")
        self._summaries: dict[str, tuple[str, LabelSetSummary]] = {}  # (version, summary) by name
        self._warned: dict[str, str] = {}  # version by name, so that a bad file is logged once
        self._has_locks = True

    async def names(self) -> set[str]:
        """Names of files, also of those that are not label sets."""
        return {name for name in await self._run(self._entries) if is_name(name)}

    async def summaries(self) -> tuple[Sequence[LabelSetSummary], int]:
        """Reads the files that changed since the last call, each as a job of its own: others run in between."""
        names = await self._run(self._entries)
        found = [summary for name in names if (summary := await self._run(self._summary, name)) is not None]
        for known in (self._summaries, self._warned):
            for gone in known.keys() - names:
                del known[gone]
        return found, len(names) - len(found)

    async def version(self, name: str) -> str | None:
        """Of the file's size, time and inode, so that a change by another program is noticed too."""
        return await self._run(self._version, name)

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """Read and validate its file."""
        return await self._run(self._read, name)

    async def write(self, label_set: LabelSet, limit: int) -> tuple[bool, str]:
        """Write its file atomically, under the lock of the folder. Raises LimitError."""
        return await self._run_when_unlocked(self._write, label_set, limit)

    async def remove(self, name: str) -> bool:
        """Remove its file, under the lock of the folder."""
        return await self._run_when_unlocked(self._remove, name)

    async def check(self) -> None:
        """Raise StoreError where the folder can be neither listed and written, nor created."""
        await self._run(self._check)

    async def aclose(self) -> None:
        """End the thread after what was submitted."""
        self._thread.close()

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(work, *args, **kwargs))

    async def _run_when_unlocked(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Retry until no other process has the lock of the folder; reads run in between."""
        ends = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                return await self._run(work, *args, **kwargs)
            except BlockingIOError:
                if time.monotonic() > ends:
                    message = f"another process has locked {self._folder} for {LOCK_TIMEOUT_S:g} s"
                    raise StoreError("timeout", f"label sets cannot be written: {message}") from None
            await asyncio.sleep(LOCK_POLL_S)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"

    def _entries(self) -> set[str]:
        """Names of the files that have the suffix, without it."""
        found: set[str] = set()
        try:
            with os.scandir(self._folder) as entries:
                for count, entry in enumerate(entries):
                    if count >= MAX_ENTRIES:
                        message = f"{self._folder} holds more than {MAX_ENTRIES} files: is it meant for something else?"
                        raise StoreError("files", f"label sets cannot be listed: {message}")
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                        found.add(entry.name.removesuffix(SUFFIX))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _store_error("listed", error) from error
        return found

    def _summary(self, name: str) -> LabelSetSummary | None:
        if not is_name(name):
            self._warn_once(name, "", "its name is none of a label set")
            return None
        version, known = self._version(name), self._summaries.get(name)
        if known is not None and known[0] == version:
            return known[1]
        self._summaries.pop(name, None)
        if (read := self._read(name)) is None:
            return None
        self._summaries[name] = read[1], read[0].summary()
        return self._summaries[name][1]

    def _version(self, name: str) -> str | None:
        try:
            return _version_of(self._file(name).lstat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _store_error("read", error) from error

    def _read(self, name: str) -> tuple[LabelSet, str] | None:
        try:
            document, status = read_regular_file(self._file(name), MAX_DOCUMENT_BYTES, follow_links=False)
            version = _version_of(status)
            if len(document) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"it is larger than {MAX_DOCUMENT_BYTES} bytes")
            return decode(name, document), version
        except FileNotFoundError:
            return None
        except (ValueError, NotRegularError) as error:
            self._warn_once(name, self._version(name) or "", str(error))
            return None
        except OSError as error:
            raise _store_error("read", error) from error

    def _warn_once(self, name: str, version: str, why: str) -> None:
        if self._warned.get(name) == version:
            return
        if len(self._warned) < MAX_WARNINGS:
            log.warning("%s is not a label set and is left alone: %s", self._file(name), why)
        elif len(self._warned) == MAX_WARNINGS:
            log.warning("%s holds more that is not a label set; GET /label-sets counts it as skipped", self._folder)
        self._warned[name] = version

    def _write(self, label_set: LabelSet, limit: int) -> tuple[bool, str]:
        document = label_set.encode()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                names = {name for name in self._entries() if is_name(name)}
                is_new = label_set.name not in names
                if is_new and len(names) >= limit:
                    raise LimitError(len(names))
                version = self._replace(label_set.name, document)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _store_error("written", error) from error
        return is_new, version

    def _replace(self, name: str, document: bytes) -> str:
        with write_atomically(self._file(name), concurrent=True) as draft:
            draft.write_bytes(document)
            return _version_of(draft.stat())

    def _remove(self, name: str) -> bool:
        file = self._file(name)
        try:
            with self._locked() as folder:
                if not stat.S_ISREG(file.lstat().st_mode):
                    return False  # it is left alone
                file.unlink()
                os.fsync(folder)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            raise
        except OSError as error:
            raise _store_error("removed", error) from error
        return True

    def _check(self) -> None:
        self._entries()
        folder = self._folder.absolute()
        try:
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            readonly = os.statvfs(existing).f_flag & os.ST_RDONLY
            if readonly or not os.access(existing, os.W_OK | os.X_OK):
                code = errno.EROFS if readonly else errno.EACCES
                raise OSError(code, os.strerror(code), str(existing))
        except OSError as error:
            raise _store_error("written", error) from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Descriptor of the folder, exclusively locked. Raises BlockingIOError while another process has the lock."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock(folder)
            yield folder
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        """Lock without waiting; where the file system has no locks, warn once and go on."""
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if self._has_locks:
                log.warning("%s is on a file system without locks: let no other process use it", self._folder)
            self._has_locks = False


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _store_error(action: str, error: OSError) -> StoreError:
    reason = error.reason if isinstance(error, WriteError) else error
    return StoreError(_KINDS.get(error.errno or 0, "files"), f"label sets cannot be {action}: {reason}")
