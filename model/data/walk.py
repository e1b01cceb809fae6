"""The files of a folder and of those below it, in an order that is not the file system's, in bounded memory."""

from __future__ import annotations

import heapq
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from model.data.files import is_system_name, stat_or_none
from model.data.skipped_samples import SkippedSamples

SORTED_NAMES = 250_000  # in memory at once; of more, as many at a time are sorted and wait on the disk
_CHUNK = 1 << 13  # bytes
Identity = tuple[int, int] | None


def regular_files(folder: Path, skipped: SkippedSamples) -> Iterator[Path]:
    """The files below `folder`, sorted within each folder, and its own before those of the folders in it.

    Links are followed, into each folder once. System files, links that lead nowhere and what is no file (a pipe, a
    device) are passed over and counted. Raises OSError where names cannot wait on the disk.
    """
    seen: set[Identity] = {_identity(folder)}
    waiting = [iter([folder])]
    while waiting:
        here = next(waiting[-1], None)
        if here is None:
            waiting.pop()
        elif len(waiting) == 1 or _is_entered(here, seen, skipped):
            folders, files = SortedNames(), SortedNames()
            _list(here, folders, files, skipped)
            yield from map(here.joinpath, files)
            waiting.append(map(here.joinpath, folders))


class SortedNames:
    """Names that are given back in order, once."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._runs: list[IO[bytes]] = []  # sorted, a zero behind each name

    def add(self, name: str) -> None:
        """Raises OSError where it has to be written and cannot."""
        self._names.append(name)
        if len(self._names) == SORTED_NAMES:
            run = tempfile.TemporaryFile()  # noqa: SIM115  (closed where it has been read)
            run.write(b"".join(os.fsencode(each) + b"\0" for each in sorted(self._names)))
            run.seek(0)
            self._runs.append(run)
            self._names.clear()

    def __iter__(self) -> Iterator[str]:
        if not self._runs:
            return iter(sorted(self._names))
        return heapq.merge(sorted(self._names), *map(_read_names, self._runs))


def _read_names(run: IO[bytes]) -> Iterator[str]:
    rest = b""
    with run:
        while chunk := run.read(_CHUNK):
            *names, rest = (rest + chunk).split(b"\0")
            yield from map(os.fsdecode, names)


def _list(where: Path, folders: SortedNames, files: SortedNames, skipped: SkippedSamples) -> None:
    for entry in _entries(where, skipped):
        if _is_folder(entry):
            folders.add(entry.name)
        elif _is_regular(entry, skipped):
            files.add(entry.name)


def _entries(where: Path, skipped: SkippedSamples) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(where) as found:
            while (entry := next(found, None)) is not None:
                yield entry
    except OSError as error:
        skipped.pass_over(str(where), f"a folder that cannot be read ({error.strerror})")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_regular(entry: os.DirEntry[str], skipped: SkippedSamples) -> bool:
    if is_system_name(entry.name):
        skipped.pass_over(entry.path, "hidden or made by the system")
        return False
    try:
        regular = entry.is_file() or stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        skipped.pass_over(entry.path, f"cannot be looked at ({error.strerror})")
        return False
    if not regular:
        skipped.pass_over(entry.path, "no file but a pipe, socket or device")
    return regular


def _is_entered(folder: Path, seen: set[Identity], skipped: SkippedSamples) -> bool:
    if is_system_name(folder.name):
        skipped.pass_over(str(folder), "hidden or made by the system")
        return False
    identity = _identity(folder)
    if identity in seen:
        skipped.pass_over(str(folder), "a link to a folder that is read already")
        return False
    seen.add(identity)
    return True


def _identity(folder: Path) -> Identity:
    state = stat_or_none(folder)
    return None if state is None else (state.st_dev, state.st_ino)
