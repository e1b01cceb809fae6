"""The folder in which the workers of one parent keep the weights that they share, removed with the parent.

It has a name, as onnxruntime opens files by name only, and so it is left behind where the parent is killed; the next
start of this user removes what nobody has locked any more.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)
PREFIX = "sightword-weights-"


@contextmanager
def weights_folder() -> Iterator[Path | None]:
    """A new folder among temporary files, of this user alone; None where no file can be written, which is logged."""
    try:
        place = Path(tempfile.gettempdir())
        _remove_left(place)
        hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))
        lock = _lock(hidden)  # also against those who clean up old temporary files
        folder = hidden.rename(place / hidden.name[1:])  # locked already, or another start would take it for left
    except OSError as error:
        log.warning("each worker has weights of its own: there is no place for temporary files (%s)", error)
        yield None
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_left(place: Path) -> None:
    """Remove those of parents that have been killed. Of other users, or links, none is looked into."""
    for folder in place.glob(f"{PREFIX}*"):
        if (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder of this user, which is locked as long as it is open; None where that cannot be."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
        os.close(descriptor)
    return None
