"""What all models of a process share: admission, the cache, the fetcher of URLs, and the thread pool."""

from __future__ import annotations

from model.images.decoders import image_decoder
from model.runtime.processor import usable_cores
from model.runtime.providers import Device
from model.runtime.shared_weights import SharedWeights
from service.admission import Admission
from service.cache import Cache
from service.inference.fetch import Fetcher
from service.metrics import Metrics
from service.settings import Settings
from service.thread_pool import ThreadPool
from service.workers.worker import Worker

ARENAS_PER_MODEL = 4  # two towers, and during a reload those of the model that takes their place
SHARE_OF_TIMEOUT = 0.7  # may be expected to be at work; the rest is for what takes longer than expected


class SharedResources:
    """They live as long as the process; models come and go."""

    def __init__(self, settings: Settings, metrics: Metrics, worker: Worker | None = None) -> None:
        """`worker` is this process where it is one of several."""
        self.settings, self.metrics = settings, metrics
        self.weights = None if worker is None or worker.weights is None else SharedWeights(worker.weights)
        self.device = _device(settings, 1 if worker is None else worker.count)
        self.admission = Admission(
            settings.queue_items,
            settings.queue_bytes,
            metrics.queue_items,
            metrics.queue_bytes,
            SHARE_OF_TIMEOUT * settings.timeout_s,
            None if worker is None else worker.row,
        )
        self.cache = Cache(settings, metrics, shared_memory=None if worker is None else worker.cache)
        self.fetcher = Fetcher(settings, self.admission)
        self.image_decoder = image_decoder(settings.decoder)
        self.pool = ThreadPool(usable_cores())

    async def aclose(self) -> None:
        """End the threads and connections."""
        self.pool.shutdown()
        await self.fetcher.aclose()
        await self.cache.aclose()


def _device(settings: Settings, processes: int) -> Device:
    """The GPU of the settings, and the part of its memory that one arena of one model may take."""
    models = len(settings.model) or 1
    limit = settings.gpu_memory_bytes
    arena_bytes = None if limit is None else limit // (models * ARENAS_PER_MODEL * processes)
    return Device(settings.device, arena_bytes, settings.max_batch or Device().largest_batch)
