"""Memory that several processes share: a file without a name, whose descriptor a parent hands down."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile


def create(name: str, size: int) -> int:
    """The descriptor of so many bytes of zeros; they are taken as they are written to. Raises OSError.

    On Linux nobody can change their number any more: a process that has mapped more than there is ends by SIGBUS.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def attach(descriptor: int) -> mmap.mmap:
    """All of it; the descriptor may be closed then. Raises OSError or ValueError for what is no such file."""
    return mmap.mmap(descriptor, 0)
