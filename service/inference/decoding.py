"""The decoding stage: image files to pixels, in the thread pool; each enters the batcher from the thread it ends in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from model.config import Preprocessing
from model.images.preprocessing import ImageError, open_header
from service.errors import ApiError, internal_error, without_frames
from service.inference.batcher import Batcher, stopping
from service.inference.fair_queue import Entry
from service.inference.records import EncodedImage
from service.inference.shared_resources import SharedResources
from service.inference.throughput import UnitCost
from service.request_context import Timing

log = logging.getLogger(__name__)
SECONDS_PER_IMAGE = 0.01  # first guess
BYTES_AT_ONCE = 32 * 1024  # of small files, which are decoded in one turn
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
                self.shared.image_decoder.load(opened)
            self.shared.metrics.decoded_pixels.inc(width * height)
            with timing.stage("preprocess"):
                return self.shared.image_decoder.preprocess(opened, self.preprocessing)
        except ImageError as error:
            raise _to_api_error(error) from None
        finally:
            self.image_cost.observe(1, time.perf_counter() - started)


class DecodeJob:
    """The images of one request, a few at a time, so that many leave room for others. Made on the event loop.

    Each entry's payload is an EncodedImage, and pixels [size, size, 3] when it enters the batcher.
    """

    def __init__(self, decoder: Decoder, batcher: Batcher, timing: Timing, entries: Sequence[Entry]) -> None:
        self._decoder, self._pool, self._batcher, self._timing = decoder, decoder.shared.pool, batcher, timing
        self._waiting = deque(entries)
        self._turns = min(len(entries), 2 * self._pool.size)
        self._most_at_once = -(-len(entries) // self._turns)  # so that all threads have some

    def start(self) -> None:
        """Each entry gets the vector [dim] of its image or an ApiError; one that is cancelled costs no work."""
        for _ in range(self._turns):
            self._submit_next()

    def _submit_next(self) -> None:
        """Queue some more images in the pool: behind those that other requests have there by now."""
        try:
            self._pool.submit(self._decode_some).add_done_callback(self._fail_if_cancelled)
        except RuntimeError:  # the pool has ended
            self._fail_all()

    def _decode_some(self) -> None:
        """One image, or several small ones: what is done for each turn takes as long as to decode one of them."""
        decoded: list[Entry] = []
        size = 0
        with suppress(IndexError):  # there are no more
            while size < BYTES_AT_ONCE and len(decoded) < self._most_at_once:
                entry = self._waiting.popleft()
                if entry.cancelled:
                    continue
                size += len(entry.payload.file)
                try:
                    pixels = self._decoder.decode(entry.payload, self._timing, LARGE_PIXELS)
                except Exception as error:
                    self._fail(entry, error)
                    continue
                if pixels is None:  # its end goes on with the rest: else all large ones would queue up at once
                    self._put(decoded)
                    entry.loop.call_soon_threadsafe(self._start_exclusively, entry)
                    return
                entry.payload = pixels
                decoded.append(entry)
        self._put(decoded)
        self._go_on()

    def _put(self, decoded: Sequence[Entry]) -> None:
        try:
            self._batcher.put(decoded)
        except ApiError as error:
            for entry in decoded:
                self._fail(entry, error)

    def _start_exclusively(self, entry: Entry) -> None:
        if entry.cancelled:
            self._go_on()
            return
        entry.task = asyncio.ensure_future(self._decode_exclusively(entry))
        entry.task.add_done_callback(self._go_on)

    async def _decode_exclusively(self, entry: Entry) -> None:
        try:
            entry.payload = await self._pool.run_exclusively(self._decoder.decode, entry.payload, self._timing, None)
            self._batcher.put([entry])
        except Exception as error:
            self._fail(entry, error)

    def _go_on(self, _: object = None) -> None:
        if self._waiting:
            self._submit_next()

    def _fail(self, entry: Entry, error: Exception) -> None:
        if not isinstance(error, ApiError):
            log.error("a picture could not be decoded", exc_info=error)
            error = internal_error()
        with suppress(RuntimeError):  # the loop has ended before the thread
            entry.loop.call_soon_threadsafe(entry.finish, without_frames(error))

    def _fail_if_cancelled(self, queued: Future[None]) -> None:
        if queued.cancelled():
            self._fail_all()

    def _fail_all(self) -> None:
        with suppress(IndexError):  # until none is left
            while True:
                self._fail(self._waiting.popleft(), stopping())


def _to_api_error(error: ImageError) -> ApiError:
    text = str(error)
    return ApiError(error.code, text[:1].upper() + text[1:].rstrip(".") + ".")
