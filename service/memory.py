"""Memory of the process: glibc's allocator, the garbage collector, and the limit of the container."""

from __future__ import annotations

import ctypes
import gc
import logging
from contextlib import suppress
from pathlib import Path

from model.images.memory import ALLOWANCE, BYTES_PER_PIXEL
from service.settings import Settings

log = logging.getLogger(__name__)

# Pillow keeps pictures in blocks of up to 16 MiB. Once it has freed one, glibc by default takes later ones from its
# heap, where a small block behind them keeps all of it: after a few large pictures, hundreds of MB for nothing.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES = 12 * 2**20  # the usual pictures stay in the heap, which is faster
_SPARE_BYTES = 32 * 2**20
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroup v2 and v1, as a container sees its own
_UNLIMITED_BYTES = 2**50
_AT_REST_BYTES = 300_000_000  # with the bundled model
_SMALL_PICTURE_BYTES = 180_000_000  # decoding one that is decoded beside others
# A thousand requests at work are some 100,000 objects. To look through them all took the event loop 13 to 40 ms on a
# busy machine, about once in 3 s with 10 in place of 50, and found next to nothing; all else waits meanwhile.
_OBJECTS_BETWEEN_COLLECTIONS = (5_000, 50, 10)


def configure_malloc() -> None:
    """Have glibc map large blocks, so that they go back to the system once freed. Does nothing with another libc."""
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)


def freeze_garbage_collector() -> None:
    """Exclude all objects of now, before models are loaded, from garbage collection, and enable it.

    Modules and schemas are hundreds of thousands of objects. To look through them takes the event loop 0.2 s, and under
    load it would happen every second. Models must not be among them: a reload has to free the old ones.
    """
    # Without a collection first: it takes as long, and finds next to nothing that is not needed any more.
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_OBJECTS_BETWEEN_COLLECTIONS)


def container_limit(cgroup: Path = _CGROUP) -> int | None:
    """Bytes that the container may use before the kernel ends it; None for no limit."""
    for name in _LIMITS:
        with suppress(OSError, ValueError):  # "max" is none
            limit = int((cgroup / name).read_text("ascii"))
            return limit if limit < _UNLIMITED_BYTES else None
    return None


def needed_bytes(settings: Settings, cores: int, workers: int = 1) -> int:
    """Bytes of the worst case: the bundled model, a full queue and cache, and the costliest pictures admitted.

    Of several workers each has the model, and one of the costliest pictures at a time; the rest is of all together.
    """
    cores = max(cores, workers)
    files = settings.max_body_bytes * (cores + workers)
    pictures = workers * (BYTES_PER_PIXEL * settings.max_image_pixels + ALLOWANCE) + _SMALL_PICTURE_BYTES * cores
    return workers * _AT_REST_BYTES + settings.queue_bytes + settings.cache_bytes + pictures + files


def warn_if_memory_is_short(settings: Settings, cores: int, limit: int | None, workers: int = 1) -> None:
    """Warn where the worst case exceeds the container's limit: the kernel would end it in the middle of requests."""
    needed = needed_bytes(settings, cores, workers)
    if limit is not None and needed > limit:
        log.warning(
            "this container may hold %d MB, and clients can make the service need %d MB: raise its limit, or lower "
            "SIGHTWORD_WORKERS, SIGHTWORD_MAX_IMAGE_PIXELS, SIGHTWORD_MAX_BODY_BYTES, SIGHTWORD_QUEUE_BYTES or "
            "SIGHTWORD_CACHE_BYTES",
            limit // 1_000_000,
            needed // 1_000_000,
        )
