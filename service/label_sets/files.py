"""Label sets as files in a folder, one each."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from service.label_sets.store import LabelSet, StoreError, decode, is_name
from service.schema.answers import LabelSetSummary

log = logging.getLogger(__name__)
SUFFIX = ".json"
MAX_FILE_BYTES = 128 * 2**20  # ours are smaller; whatever else lies there is not read into memory


class FilesStore:
    """The folder is made when the first label set is stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._summaries: dict[str, tuple[str, LabelSetSummary]] = {}  # by name, of the version that it is true for
        self._complained: dict[str, str] = {}  # so that a bad file is logged once

    async def names(self) -> set[str]:
        """Names of files, also of those that are no label sets."""
        return await asyncio.to_thread(self._names)

    async def summaries(self) -> Sequence[LabelSetSummary]:
        """Reads the files that changed since the last call."""
        return await asyncio.to_thread(self._list)

    async def version(self, name: str) -> str | None:
        """From size and time, so that a file that somebody else replaced is noticed too."""
        return await asyncio.to_thread(self._version, name)

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """Read its file."""
        return await asyncio.to_thread(self._read, name)

    async def write(self, label_set: LabelSet) -> tuple[bool, str]:
        """Write a new file and put it in the place of the old one."""
        return await asyncio.to_thread(self._write, label_set)

    async def remove(self, name: str) -> bool:
        """Remove its file."""
        return await asyncio.to_thread(self._remove, name)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _file(self, name: str) -> Path:
        assert is_name(name)
        return self._folder / f"{name}{SUFFIX}"

    def _names(self) -> set[str]:
        try:
            files = [file.name for file in self._folder.iterdir()]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _failed("listed", error) from error
        return {name for file in files if file.endswith(SUFFIX) and is_name(name := file.removesuffix(SUFFIX))}

    def _list(self) -> list[LabelSetSummary]:
        found: dict[str, tuple[str, LabelSetSummary]] = {}
        for name in self._names():
            version, known = self._version(name), self._summaries.get(name)
            if known is not None and known[0] == version:
                found[name] = known
            elif (read := self._read(name)) is not None:
                found[name] = (read[1], read[0].summary())
        self._summaries = found
        return [summary for _, summary in found.values()]

    def _version(self, name: str) -> str | None:
        try:
            return _version_of(self._file(name).stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("read", error) from error

    def _read(self, name: str) -> tuple[LabelSet, str] | None:
        try:
            with self._file(name).open("rb") as stream:
                status = os.fstat(stream.fileno())
                document = stream.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            self._complain(name, "", "it is a folder")
            return None
        except OSError as error:
            raise _failed("read", error) from error
        version = _version_of(status)
        try:
            if len(document) > MAX_FILE_BYTES:
                raise ValueError("it is too large")
            return decode(name, document), version
        except ValueError as error:
            self._complain(name, version, str(error))
            return None

    def _complain(self, name: str, version: str, why: str) -> None:
        if self._complained.get(name) != version:
            log.warning("%s is not a label set and is left alone: %s", self._file(name), why)
            self._complained[name] = version

    def _write(self, label_set: LabelSet) -> tuple[bool, str]:
        file = self._file(label_set.name)
        draft = self._folder / f".{label_set.name}.{uuid.uuid4().hex}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("xb") as stream:
                    stream.write(label_set.encode())
                    stream.flush()
                    os.fsync(stream.fileno())
                    version = _version_of(os.fstat(stream.fileno()))
                is_new = not file.exists()
                draft.replace(file)
            finally:
                draft.unlink(missing_ok=True)
            self._sync_folder()
        except OSError as error:
            raise _failed("written", error) from error
        return is_new, version

    def _remove(self, name: str) -> bool:
        try:
            self._file(name).unlink()
            self._sync_folder()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed("removed", error) from error
        return True

    def _sync_folder(self) -> None:
        """A rename outlives a loss of power only when its folder is on the disk."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _version_of(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _failed(done: str, error: OSError) -> StoreError:
    return StoreError("files", f"label sets cannot be {done}: {error}")
