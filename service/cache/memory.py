"""The tier in this process: what was used least recently leaves first; bounded by bytes and by age."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from cachetools import TTLCache

from service.cache.value import Vector

ENTRY_BYTES = 640  # what an entry takes beside its numbers: key, array object, links, its places in three tables


def _size(vector: Vector) -> int:
    return vector.nbytes + ENTRY_BYTES


class Memory:
    """Vectors by key."""

    def __init__(self, most_bytes: int, ttl_s: float, timer: Callable[[], float] = monotonic) -> None:
        self._entries: TTLCache[str, Vector] = TTLCache(most_bytes, ttl_s, timer, _size)

    def get(self, key: str) -> Vector | None:
        """The vector, if it is here."""
        try:
            return self._entries[key]
        except KeyError:
            return None

    def put(self, key: str, vector: Vector) -> None:
        """Keep a vector that owns its numbers and does not change any more. Others may leave for it."""
        if _size(vector) <= self._entries.maxsize:
            self._entries[key] = vector

    def held_bytes(self) -> float:
        """Bytes taken now."""
        return self._entries.currsize
