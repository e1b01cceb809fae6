"""How the process keeps memory that it no longer needs."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

# Pillow keeps pictures in blocks of up to 16 MiB. Once it has freed one, glibc by default takes later ones from its
# heap, where a small block behind them keeps all of it: after a few large pictures, hundreds of MB for nothing.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 12 * 2**20  # the usual pictures stay in the heap, which is faster
_SPARE_BYTES = 32 * 2**20
_OBJECTS_BETWEEN_COLLECTIONS = (5_000, 10, 10)  # a thousand requests at work are some 100,000 objects


def give_back_large_blocks() -> None:
    """Large blocks come from the system and go back to it as soon as they are free. Only glibc needs to be told."""
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def leave_out_what_stays() -> None:
    """Take all that is there now, before models are loaded, out of the garbage collector's sight.

    Modules and schemas are hundreds of thousands of objects. To look through them takes the event loop 0.2 s, and under
    load it would happen every second. Models must not be among them: a reload has to free the old ones.
    """
    # Without a collection first: it takes as long, and finds next to nothing that is not needed any more.
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_OBJECTS_BETWEEN_COLLECTIONS)
