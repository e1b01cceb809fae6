"""What all models of a process share: admission, the cache, the fetcher of URLs, and the thread pool."""

from __future__ import annotations

from model.runtime.engine import usable_cores
from service.admission import Admission
from service.cache import Cache
from service.inference.fetch import Fetcher
from service.metrics import Metrics
from service.settings import Settings
from service.thread_pool import ThreadPool

SHARE_OF_TIMEOUT = 0.7  # may be expected to be at work; the rest is for what takes longer than expected


class SharedResources:
    """They live as long as the process; models come and go."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.admission = Admission(
            settings.queue_items,
            settings.queue_bytes,
            metrics.queue_items,
            metrics.queue_bytes,
            SHARE_OF_TIMEOUT * settings.timeout_s,
        )
        self.cache = Cache(settings, metrics)
        self.fetcher = Fetcher(settings, self.admission)
        self.pool = ThreadPool(usable_cores())

    async def aclose(self) -> None:
        """End the threads and connections."""
        self.pool.shutdown()
        await self.fetcher.aclose()
        await self.cache.aclose()
