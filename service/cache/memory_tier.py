"""The cache tier in this process: least recently used first out, bounded by bytes and by age."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from cachetools import TTLCache

from service.cache.value import Vector

ENTRY_BYTES = 640  # what an entry takes beside its numbers: key, array object, links, its places in three tables


def _size(vector: Vector) -> int:
    return vector.nbytes + ENTRY_BYTES


class MemoryTier:
    """Vectors by key, in at most `max_bytes`, each for `ttl_s` seconds of `timer`."""

    def __init__(self, max_bytes: int, ttl_s: float, timer: Callable[[], float] = monotonic) -> None:
        self._entries: TTLCache[str, Vector] = TTLCache(max_bytes, ttl_s, timer, _size)

    def get(self, key: str) -> Vector | None:
        """The vector [dimensions], or None."""
        try:
            return self._entries[key]
        except KeyError:
            return None

    def put(self, key: str, vector: Vector) -> None:
        """Store a vector [dimensions] that owns its data and is not changed any more; may evict others."""
        if _size(vector) <= self._entries.maxsize:
            self._entries[key] = vector

    def held_bytes(self) -> float:
        """Bytes in use."""
        return self._entries.currsize
