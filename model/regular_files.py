"""Reading files that somebody else may have put there: never waits for a FIFO, never reads a device or without end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class NotRegularError(OSError):
    """What lies there is no regular file; the message says what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EINVAL, message)

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file for reading, at once.

    Raises NotRegularError for a folder, FIFO, socket or device, and for a symbolic link unless links are followed;
    OSError for a file that cannot be opened.
    """
    # Opened in the usual way, a FIFO would be waited for until somebody writes into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise NotRegularError("it is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise NotRegularError("it is a socket") from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular_file(path: Path, most_bytes: int, *, follow_links: bool = True) -> tuple[bytes, os.stat_result]:
    """The content, of which at most `most_bytes` + 1 are read, and the status of that very file. Raises as above."""
    with open_regular(path, follow_links=follow_links) as file:
        return file.read(most_bytes + 1), os.fstat(file.fileno())
