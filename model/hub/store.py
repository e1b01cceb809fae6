"""Models that were pulled: where they lie, and one process at a time that brings one."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from model.bundle import MANIFEST
from model.hub.errors import HubError
from model.hub.names import Published, published
from model.hub.settings import HubSettings

LOCK_S, LOCK_TRY_S = 6 * 3600.0, 0.5  # the largest models, over a slow line


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


def _wait_for(file: IO[str], model: Published) -> None:
    ends = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise HubError(
                    f"another process has been pulling {model.name} for {LOCK_S / 3600:g} hours: end it, or wait and "
                    "run the command again"
                ) from None
            time.sleep(LOCK_TRY_S)


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
            _wait_for(file, model)
        yield
