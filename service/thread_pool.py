"""The thread pool for what would hold up the event loop, and how much of each kind of work is done inline instead.

Handing work to a thread and waking the loop for its result costs about 0.1 ms, and more when all cores are busy. So
work of up to about a millisecond is done on the event loop. Each limit below is the amount up to which that holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

INLINE_TOKENIZED_CHARACTERS = 1_000
INLINE_HASHED_BYTES = 256 * 1024  # base64 undone, and SHA-256
INLINE_PARSED_BYTES = 256 * 1024  # JSON read and validated
INLINE_PROMPT_CHARACTERS = 100_000  # hashed: less than 0.2 ms
INLINE_AVERAGED_PROMPTS = 200  # their vectors averaged: less than 0.2 ms
INLINE_SCORES = 4_000  # labels scored and sorted
INLINE_COSINES = 16_384  # pairs of vectors compared: less than 0.5 ms with 512 dimensions
INLINE_WRITTEN_NUMBERS = 16_384  # as JSON


class ThreadPool:
    """`size` threads for what decodes, hashes, parses and writes. Its coroutines run on the event loop."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._executor = ThreadPoolExecutor(size, thread_name_prefix="decode")
        self._exclusive = asyncio.Semaphore(1)

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue the work. Raises RuntimeError after `shutdown`."""
        return self._executor.submit(work, *args, **kwargs)

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the work in a thread; cancelled before it starts, it never does."""
        return await asyncio.wrap_future(self._executor.submit(work, *args, **kwargs))

    async def run_inline_or_in_thread(
        self, amount: int, inline_limit: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of the work: done on the event loop if `amount` is at most `inline_limit`, else in a thread."""
        if amount <= inline_limit:
            return work(*args, **kwargs)
        return await self.run_in_thread(work, *args, **kwargs)

    async def run_exclusively(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run_in_thread`, one at a time, for what takes much memory: 50 million pixels take up to 0.8 GB."""
        await self._exclusive.acquire()
        future = self._executor.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(self._exclusive.release)

        # The next one waits for the thread, which goes on when nobody waits for its result any more.
        future.add_done_callback(release)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # raised in this frame, its error would lead back to it

    def shutdown(self) -> None:
        """Start nothing more, and do not wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
