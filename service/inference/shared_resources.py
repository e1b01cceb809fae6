"""What all models of a process share: admission, the cache, the fetcher of URLs, and the thread pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from model.runtime.engine import usable_cores
from service.admission import Admission
from service.cache import Cache
from service.inference.fetch import Fetcher
from service.metrics import Metrics
from service.settings import Settings

SHARE_OF_TIMEOUT = 0.7  # may be expected to be at work; the rest is for what takes longer than expected
P = ParamSpec("P")
T = TypeVar("T")


class SharedResources:
    """Admission, cache, fetcher and thread pool. They live as long as the process; models come and go."""

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
        self.cores = usable_cores()
        self._alone = asyncio.Semaphore(1)
        self._pool = ThreadPoolExecutor(self.cores, thread_name_prefix="decode")

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run in the pool, for those who need no result on the event loop. Raises RuntimeError when it has ended."""
        return self._pool.submit(work, *args, **kwargs)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the pool; cancelled before it starts, it never does."""
        return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))

    async def alone_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for what takes much memory, one at a time: a picture of 50 million pixels takes up to 0.8 GB."""
        await self._alone.acquire()
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(self._alone.release)

        # The next one waits for the thread, which goes on when nobody waits for its result any more.
        future.add_done_callback(release)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # raised in this frame, its error would lead back to it

    async def aclose(self) -> None:
        """End the threads and connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        await self.fetcher.aclose()
        await self.cache.aclose()
