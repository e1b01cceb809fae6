"""Memory that several processes share: a file without a name, whose descriptor a parent hands down."""

from __future__ import annotations

import mmap
import os
import tempfile


def create(name: str, size: int) -> int:
    """The descriptor of so many bytes of zeros; they are taken as they are written to. Raises OSError."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def attach(descriptor: int) -> mmap.mmap:
    """All of it; the descriptor may be closed then. Raises OSError or ValueError for what is no such file."""
    return mmap.mmap(descriptor, 0)
