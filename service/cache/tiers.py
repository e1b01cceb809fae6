"""The cache of vectors, in two tiers: memory, of this process or of all workers, then Redis."""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap
from typing import TYPE_CHECKING

import numpy as np

from service.cache.memory_tier import MemoryTier
from service.cache.shared_memory_tier import LEAST_BYTES, SharedMemoryTier
from service.cache.value import Vector
from service.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from service.cache.redis_tier import RedisTier

CONNECTIONS = 32
REDIS_TIMEOUT_S = 0.05  # a lookup that takes longer is a miss
PROBE_TIMEOUT_S = 1.0


class Cache:
    """Vectors by key; a key names the bundle, the modality, what computes, and the content. For the event loop only."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        shared_memory: mmap | None = None,
        redis_timeout_s: float = REDIS_TIMEOUT_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        """Opens no connection yet. Raises SettingsError where `redis_url` cannot be used.

        `shared_memory` is used in place of memory of its own, with other processes.
        `redis_timeout_s` bounds what a request waits for Redis, `probe_timeout_s` what nothing but a check waits for.
        """
        self._memory = _memory_tier(settings, shared_memory)
        metrics.cache_bytes.set_function(self._memory.held_bytes)
        self._hits, self._misses = (metrics.cache_lookups.labels("memory", outcome) for outcome in ("hit", "miss"))
        self._redis = _redis_tier(settings, metrics, redis_timeout_s, probe_timeout_s)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written to Redis."""
        return self._redis is None or self._redis.idle

    async def check(self) -> bool:
        """At the start: whether Redis, where it is configured, can be read; logs what it refuses."""
        return self._redis is None or await self._redis.check()

    async def get(self, keys: Sequence[str], dimensions: int) -> list[Vector | None]:
        """For each key its vector [dimensions], read-only, or None. Keys may repeat."""
        found = [self._memory.get(key) for key in keys]
        missing = [index for index, vector in enumerate(found) if vector is None]
        if hits := len(keys) - len(missing):
            self._hits.inc(hits)
        if missing:
            self._misses.inc(len(missing))
        if missing and self._redis is not None:
            shared = await self._redis.get(list({keys[index]: None for index in missing}), dimensions)
            for key, vector in shared.items():
                self._memory.put(key, vector)
            for index in missing:
                key = keys[index]
                # What Redis lacks may have been computed while it was asked.
                found[index] = shared[key] if key in shared else self._memory.get(key)
        return found

    def put(self, key: str, vector: Vector) -> None:
        """Store a copy of a vector [dimensions]; one that is not finite is left out."""
        if not np.isfinite(vector).all():
            return
        vector = np.array(vector, np.float32)
        vector.flags.writeable = False
        self._memory.put(key, vector)
        if self._redis is not None:
            self._redis.put(key, vector)

    async def aclose(self) -> None:
        """Write what is queued for Redis, and close the connections."""
        if self._redis is not None:
            await self._redis.aclose()


def _memory_tier(settings: Settings, shared_memory: mmap | None) -> MemoryTier | SharedMemoryTier:
    if shared_memory is None or len(shared_memory) < LEAST_BYTES:
        return MemoryTier(settings.cache_bytes, settings.cache_ttl_s)
    return SharedMemoryTier(shared_memory, settings.cache_ttl_s)


def _redis_tier(settings: Settings, metrics: Metrics, timeout_s: float, probe_timeout_s: float) -> RedisTier | None:
    if settings.redis_url is None:
        return None
    # Only for those who have Redis: its client is a tenth of what a start imports.
    from service.cache.client import RedisClient
    from service.cache.connection import connect
    from service.cache.redis_tier import RedisTier

    redis = connect(settings.redis_url, connections=CONNECTIONS)
    client = RedisClient(redis, settings.redis_prefix, metrics, timeout_s=timeout_s, probe_timeout_s=probe_timeout_s)
    return RedisTier(client, settings.cache_ttl_s, metrics)
