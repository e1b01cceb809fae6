"""Reading files that somebody else may have put there: never waits for a FIFO, never reads a device or without end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class NotRegularError(Exception):
    """What lies there is no regular file; the message says what it is."""


def read_regular_file(path: Path, most_bytes: int, *, follow_links: bool) -> tuple[bytes, os.stat_result]:
    """The content, of which at most `most_bytes` + 1 are read, and the status of that very file.

    Raises NotRegularError for a folder, FIFO, socket or device, and for a symbolic link unless links are followed;
    OSError for a file that cannot be read.
    """
    # Opened in the usual way, a FIFO would be waited for until somebody writes into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise NotRegularError("it is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise NotRegularError("it is a socket") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError(f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'a device')}")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(most_bytes + 1), status
    finally:
        os.close(descriptor)
