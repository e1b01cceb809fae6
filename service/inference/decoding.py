"""The pictures of one request on their way from file to batcher, which each enters from the thread that decoded it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

from service.errors import ApiError, internal_error, without_frames
from service.inference.batcher import Batcher
from service.inference.fair_queue import Vector
from service.inference.reading import LARGE_PIXELS, EncodedImage, Reader
from service.request_context import Timing

log = logging.getLogger(__name__)


class DecodeJob:
    """Decodes a few pictures at a time, so that a request of many leaves room for others. Starts on the event loop."""

    def __init__(self, reader: Reader, batcher: Batcher, timing: Timing) -> None:
        self._reader, self._shared, self._batcher, self._timing = reader, reader.shared, batcher, timing
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[EncodedImage, asyncio.Future[Vector]]] = deque()

    def start(self, pictures: Iterable[tuple[EncodedImage, asyncio.Future[Vector]]]) -> None:
        """Each future gets the vector [dim] of its picture or raises ApiError; one that is cancelled costs no work."""
        self._waiting.extend(pictures)
        for _ in range(min(len(self._waiting), 2 * self._shared.pool.size)):
            self._go_on()

    def _go_on(self) -> None:
        """Take a place in the pool's queue for the next picture: behind those that others have there by now."""
        try:
            self._shared.pool.submit(self._decode_next).add_done_callback(self._look_for_the_end)
        except RuntimeError:  # the pool has ended
            self._stop()

    def _decode_next(self) -> None:
        with suppress(IndexError):  # the rest was cancelled
            picture, future = self._waiting.popleft()
            while future.cancelled():
                picture, future = self._waiting.popleft()
            try:
                pixels = self._reader.decode(picture, self._timing, LARGE_PIXELS)
                if pixels is None:
                    self._loop.call_soon_threadsafe(self._decode_alone, picture, future)
                    return
                self._batcher.put(pixels, future, self._timing)
            except Exception as error:
                self._fail(future, error)
            if self._waiting:
                self._go_on()

    def _decode_alone(self, picture: EncodedImage, future: asyncio.Future[Vector]) -> None:
        task = asyncio.ensure_future(self._wait_and_decode(picture, future))
        future.add_done_callback(lambda _: task.cancel())

    async def _wait_and_decode(self, picture: EncodedImage, future: asyncio.Future[Vector]) -> None:
        try:
            pixels = await self._shared.pool.run_exclusively(self._reader.decode, picture, self._timing, None)
            self._batcher.put(pixels, future, self._timing)
        except Exception as error:
            self._fail(future, error)
        finally:
            if self._waiting:
                self._go_on()

    def _fail(self, future: asyncio.Future[Vector], error: Exception) -> None:
        if not isinstance(error, ApiError):
            log.error("a picture could not be decoded", exc_info=error)
            error = internal_error()
        with suppress(RuntimeError):  # the loop has ended before the thread
            self._loop.call_soon_threadsafe(_raise_in, future, without_frames(error))

    def _look_for_the_end(self, job: Future[None]) -> None:
        if job.cancelled():
            self._stop()

    def _stop(self) -> None:
        with suppress(IndexError):  # until none is left
            while True:
                _, future = self._waiting.popleft()
                self._fail(future, ApiError("unavailable", "The service is stopping; send the request again."))


def _raise_in(future: asyncio.Future[Vector], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
