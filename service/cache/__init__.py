"""The cache of vectors, in two tiers: this process, and Redis where it is configured."""

from service.cache.tiers import Cache
from service.cache.value import Vector

__all__ = ["Cache", "Vector"]
