"""The folders below SIGHTWORD_HOME: bundles, downloads, and the locks that let one process at a time pull a model."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from model.hub.errors import HubError
from model.hub.names import PublishedModel, published_model
from model.hub.settings import HubSettings
from model.manifest import MANIFEST

DOWNLOADS = "downloads"
LOCK_TIMEOUT_S, LOCK_POLL_S = 6 * 3600.0, 0.5  # the largest models, over a slow line


def bundle_folder(model: PublishedModel, settings: HubSettings) -> Path:
    """The folder of the bundle that a pull of the model writes."""
    return settings.home / "bundles" / model.id


def download_folder(model: PublishedModel, settings: HubSettings) -> Path:
    """The folder that its published files are downloaded into."""
    return settings.home / DOWNLOADS / model.id


def find_bundle(name: str) -> Path | None:
    """The bundle of a model that was pulled, None if it was not. Raises HubError if no model can have that name."""
    folder = bundle_folder(published_model(name), HubSettings.read())
    return folder if (folder / MANIFEST).is_file() else None


def _acquire(file: IO[str], model: PublishedModel) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise HubError(
                    f"another process has been pulling {model.name} for {LOCK_TIMEOUT_S / 3600:g} hours: end it, or "
                    "wait and run the command again"
                ) from None
            time.sleep(LOCK_POLL_S)


@contextmanager
def pull_lock(model: PublishedModel, settings: HubSettings, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a model, released also when the process dies; `on_wait` is called if another process has it.

    Raises HubError after LOCK_TIMEOUT_S seconds.
    """
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / model.id).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            _acquire(file, model)
        yield
