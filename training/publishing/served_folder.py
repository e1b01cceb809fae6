"""Swap the bundle in the folder that a service serves, and roll back whatever happens in between.

While it is not decided which of the two stays, the old one lies beside as NAME.undecided; whoever finds it there, after
a kill, puts it back. Afterwards it is NAME.previous.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from model.bundle import Bundle, write_manifest
from model.files import exclusive_lock
from training.publishing.service_client import PublishError


class ServedFolder:
    """A folder, or a link to one, which then stays a link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_link = path.is_symlink()
        self._new, self._refused = self._sibling("new"), self._sibling("refused")
        self._undecided, self._previous = self._sibling("undecided"), self._sibling("previous")

    def _sibling(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the folder, released also by a kill. Raises PublishError while somebody else publishes."""
        held = PublishError(f"somebody else publishes into {self.path}: try again when it is done")
        with exclusive_lock(self._sibling("lock"), held):
            yield

    @property
    def is_undecided(self) -> bool:
        """Whether a publication is at work, or was killed."""
        return self._undecided.exists() or self._undecided.is_symlink()

    def recover(self) -> bool:
        """Roll back a publication that was left undecided; whether there was one."""
        if not self.is_undecided:
            return False
        self._roll_back()
        return True

    def prepare(self, bundle: Bundle, name: str) -> Bundle:
        """Copy the bundle beside the folder, under the name that clients know, and verify the copy."""
        _remove(self._new)
        target = self._new
        if self._is_link:
            target = self.path.with_name(f"{self.path.name}-{datetime.now():%Y%m%d-%H%M%S-%f}")
            self._new.symlink_to(target.name)
        shutil.copytree(bundle.path, target)
        if bundle.id != name:
            write_manifest(target, bundle.manifest.model_dump(mode="json", exclude={"files"}) | {"id": name})
        return Bundle.load(self._new)

    def swap(self) -> None:
        """Put the prepared bundle in the place of the served one: a link atomically, a folder in two renames.

        Raises PublishError for a folder that cannot be renamed, as a volume's cannot.
        """
        try:
            if self._is_link:
                self._undecided.symlink_to(self.path.readlink())
                self._new.replace(self.path)
            else:
                self.path.rename(self._undecided)
                self._new.rename(self.path)
        except OSError as error:
            raise PublishError(
                f"{self.path} cannot be renamed ({error.strerror}): serve a folder in it, or a link"
            ) from error

    def _roll_back(self) -> None:
        """Put the old bundle back and remove the new one."""
        if self._undecided.is_symlink():
            new = self.path.resolve()
            self._undecided.replace(self.path)
            if new != self.path.resolve():
                _remove(new)
            return
        _remove(self._refused)
        if self.path.exists():
            self.path.rename(self._refused)
        self._undecided.rename(self.path)
        _remove(self._refused)

    def commit(self) -> Path:
        """Keep the new bundle; returns where the old one is."""
        _remove(self._previous)
        self._undecided.rename(self._previous)
        return self._previous


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
