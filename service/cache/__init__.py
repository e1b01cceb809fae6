"""The cache of vectors, in two tiers: memory, and Redis where it is configured."""

from service.cache.tiers import Cache
from service.cache.value import Vector

__all__ = ["Cache", "Vector"]
