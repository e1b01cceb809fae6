"""Models that were pulled: where they lie, and one process at a time that brings one."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model.bundle import MANIFEST
from model.hub.names import Published, published
from model.hub.settings import HubSettings


def bundle_folder(model: Published, settings: HubSettings) -> Path:
    """Where its bundle belongs, or is."""
    return settings.home / "bundles" / model.id


def download_folder(model: Published, settings: HubSettings) -> Path:
    """Where its files arrive."""
    return settings.home / "downloads" / model.id


def find(name: str) -> Path | None:
    """The bundle of a model that was pulled, None if it was not. Raises HubError if no model can have that name."""
    folder = bundle_folder(published(name), HubSettings.read())
    return folder if (folder / MANIFEST).is_file() else None


@contextmanager
def locked(model: Published, settings: HubSettings, waiting: Callable[[], None]) -> Iterator[None]:
    """Within it, no other process pulls this model; `waiting` is called if one does. It ends with the process."""
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / model.id).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
