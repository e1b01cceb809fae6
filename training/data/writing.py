"""Writes WebDataset shards: tar files of `KEY.jpg` and `KEY.json`, the same bytes for the same samples."""

from __future__ import annotations

import errno
import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from training.data.shards import ShardError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ShardWriter:
    """Writes `STEM-000000.tar` and on into a folder, `size` samples each; a shard appears whole or not at all.

    Raises ShardError where the disk is full, and leaves no half shard.
    """

    def __init__(self, folder: Path, stem: str, size: int) -> None:
        self.written: list[Path] = []
        self.samples = 0
        self._folder, self._stem, self._size = folder, stem, size
        self._draft = folder / f"{stem}.partial"
        self._file: BinaryIO | None = None
        self._archive: tarfile.TarFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def add(self, suffix: str, picture: bytes, told: dict[str, Any]) -> None:
        """A sample; its key is its number."""
        key = f"{self.samples:08d}"
        try:
            if self._archive is None:
                self._file = self._draft.open("wb")
                self._archive = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)
            _add(self._archive, f"{key}.{suffix}", picture)
            _add(self._archive, f"{key}.json", json.dumps(told, ensure_ascii=False).encode(errors="replace"))
            self.samples += 1
            if self.samples % self._size == 0:
                self._finish()
        except OSError as error:
            raise self._told(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failed:
            raise self._told(failed) from failed
        finally:
            if self._file is not None:
                with suppress(OSError):  # what it still holds may find no room either
                    self._file.close()
            self._draft.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._archive is None or self._file is None:
            return
        self._archive.close()
        self._file.close()
        shard = self._folder / f"{self._stem}-{len(self.written):06d}.tar"
        self._draft.replace(shard)
        self.written.append(shard)
        self._archive = self._file = None

    def _told(self, error: OSError) -> Exception:
        if error.errno not in FULL:
            return error
        return ShardError(
            f"{self._folder}: no room for shard {len(self.written)} ({error.strerror}). {len(self.written)} shards are "
            "whole and were kept; make room, and give the same command again with --overwrite"
        )


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
