"""Vectors that were computed before: in this process, then in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from service.cache.memory import Memory
from service.cache.value import Vector
from service.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from service.cache.remote import Remote

CONNECTIONS = 32


class Cache:
    """Asked with keys that name bundle, modality, what computes, and content. Lives on the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Opens no connection yet. Raises SettingsError if `redis_url` is no good."""
        self._memory = Memory(settings.cache_bytes, settings.cache_ttl_s)
        metrics.cache_bytes.set_function(self._memory.held_bytes)
        self._hits, self._misses = (metrics.cache_lookups.labels("memory", outcome) for outcome in ("hit", "miss"))
        self._remote = _remote(settings, metrics)

    async def check(self) -> bool:
        """At the start: whether Redis, if there is to be one, can be read. Tells the log what cannot be done."""
        return self._remote is None or await self._remote.check()

    async def get(self, keys: Sequence[str], dimensions: int) -> list[Vector | None]:
        """For each key its vector [dimensions], read-only, or None. Keys may come more than once."""
        found = [self._memory.get(key) for key in keys]
        missing = [index for index, vector in enumerate(found) if vector is None]
        if hits := len(keys) - len(missing):
            self._hits.inc(hits)
        if missing:
            self._misses.inc(len(missing))
        if missing and self._remote is not None:
            shared = await self._remote.get(list({keys[index]: None for index in missing}), dimensions)
            for key, vector in shared.items():
                self._memory.put(key, vector)
            for index in missing:
                key = keys[index]
                # What Redis lacks may have been computed while it was asked.
                found[index] = shared[key] if key in shared else self._memory.get(key)
        return found

    def put(self, key: str, vector: Vector) -> None:
        """Remember a vector [dimensions], which may be a part of an array that is used again."""
        if not np.isfinite(vector).all():
            return
        vector = np.array(vector, np.float32)
        vector.flags.writeable = False
        self._memory.put(key, vector)
        if self._remote is not None:
            self._remote.put(key, vector)

    async def aclose(self) -> None:
        """Store what is still to be stored, and end the connections."""
        if self._remote is not None:
            await self._remote.aclose()


def _remote(settings: Settings, metrics: Metrics) -> Remote | None:
    if settings.redis_url is None:
        return None
    # Only for those who have Redis: its client is a tenth of what a start imports.
    from service.cache.redis import connect
    from service.cache.remote import Remote

    return Remote(connect(settings.redis_url, connections=CONNECTIONS), settings, metrics)
