"""Memory that a step frees is kept for the next one.

glibc gives every large block back to the kernel at once; on a CPU, where each step allocates gigabytes of activations,
the page faults of getting it again cost about a third of a step.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameter numbers, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGE = 2**31 - 1


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed blocks; does nothing with another C library."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGE)
        mallopt(M_TOP_PAD, 256 * 2**20)
