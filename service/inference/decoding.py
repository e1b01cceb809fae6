"""The decoding stage: image files to pixels, in the thread pool; each enters the batcher from the thread it ends in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from model.config import Preprocessing
from model.images.preprocessing import ImageError, open_header, preprocess
from service.errors import ApiError, internal_error, without_frames
from service.inference.batcher import Batcher
from service.inference.fair_queue import Vector
from service.inference.records import EncodedImage
from service.inference.shared_resources import SharedResources
from service.inference.throughput import UnitCost
from service.request_context import Timing

log = logging.getLogger(__name__)
SECONDS_PER_IMAGE = 0.01  # first guess
LARGE_PIXELS = 9_000_000  # those of more, or that take as much memory, are decoded one at a time; a 4K screen has less


class Decoder:
    """Decodes and resizes for one model."""

    def __init__(self, preprocessing: Preprocessing, shared: SharedResources) -> None:
        self.preprocessing, self.shared = preprocessing, shared
        self.image_cost = UnitCost(SECONDS_PER_IMAGE, span=16)  # by image

    def expected_s(self, images: int) -> float:
        """How many seconds so many images will take, where nothing else is at work."""
        return images * self.image_cost.seconds_per_unit / self.shared.pool.size

    def decode(self, image: EncodedImage, timing: Timing, max_pixels: int | None) -> NDArray[np.uint8] | None:
        """Pixels [size, size, 3], for a thread; None if it takes more memory than an image of `max_pixels`.

        Raises ApiErrors that name no field.
        """
        started = time.perf_counter()
        try:
            with timing.stage("decode"):
                opened = open_header(image.file, self.shared.settings.max_image_pixels, self.preprocessing.draft_size)
                width, height = opened.size
                if max_pixels is not None and opened.pixels > max_pixels:
                    return None
                opened.load()
            self.shared.metrics.decoded_pixels.inc(width * height)
            with timing.stage("preprocess"):
                return preprocess(opened.take(), self.preprocessing, opened.box)
        except ImageError as error:
            raise _to_api_error(error) from None
        finally:
            self.image_cost.observe(1, time.perf_counter() - started)


class DecodeJob:
    """The images of one request, a few at a time, so that many leave room for others. Made on the event loop."""

    def __init__(self, decoder: Decoder, batcher: Batcher, timing: Timing) -> None:
        self._decoder, self._pool, self._batcher, self._timing = decoder, decoder.shared.pool, batcher, timing
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[EncodedImage, asyncio.Future[Vector]]] = deque()

    def start(self, images: Iterable[tuple[EncodedImage, asyncio.Future[Vector]]]) -> None:
        """Each future gets the vector [dim] of its image or raises ApiError; one that is cancelled costs no work."""
        self._waiting.extend(images)
        for _ in range(min(len(self._waiting), 2 * self._pool.size)):
            self._submit_next()

    def _submit_next(self) -> None:
        """Queue one more image in the pool: behind those that other requests have there by now."""
        try:
            self._pool.submit(self._decode_next).add_done_callback(self._fail_if_cancelled)
        except RuntimeError:  # the pool has ended
            self._fail_all()

    def _decode_next(self) -> None:
        with suppress(IndexError):  # the rest was cancelled
            image, future = self._waiting.popleft()
            while future.cancelled():
                image, future = self._waiting.popleft()
            try:
                pixels = self._decoder.decode(image, self._timing, LARGE_PIXELS)
                if pixels is None:
                    self._loop.call_soon_threadsafe(self._start_exclusively, image, future)
                    return
                self._batcher.put(pixels, future, self._timing)
            except Exception as error:
                self._fail(future, error)
            if self._waiting:
                self._submit_next()

    def _start_exclusively(self, image: EncodedImage, future: asyncio.Future[Vector]) -> None:
        task = asyncio.ensure_future(self._decode_exclusively(image, future))
        future.add_done_callback(lambda _: task.cancel())

    async def _decode_exclusively(self, image: EncodedImage, future: asyncio.Future[Vector]) -> None:
        try:
            pixels = await self._pool.run_exclusively(self._decoder.decode, image, self._timing, None)
            self._batcher.put(pixels, future, self._timing)
        except Exception as error:
            self._fail(future, error)
        finally:
            if self._waiting:
                self._submit_next()

    def _fail(self, future: asyncio.Future[Vector], error: Exception) -> None:
        if not isinstance(error, ApiError):
            log.error("a picture could not be decoded", exc_info=error)
            error = internal_error()
        with suppress(RuntimeError):  # the loop has ended before the thread
            self._loop.call_soon_threadsafe(_set_exception, future, without_frames(error))

    def _fail_if_cancelled(self, queued: Future[None]) -> None:
        if queued.cancelled():
            self._fail_all()

    def _fail_all(self) -> None:
        with suppress(IndexError):  # until none is left
            while True:
                _, future = self._waiting.popleft()
                self._fail(future, ApiError("unavailable", "The service is stopping; send the request again."))


def _to_api_error(error: ImageError) -> ApiError:
    text = str(error)
    return ApiError(error.code, text[:1].upper() + text[1:].rstrip(".") + ".")


def _set_exception(future: asyncio.Future[Vector], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
