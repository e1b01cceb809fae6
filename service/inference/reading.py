"""From items to what the towers take and the cache is asked for: file bytes or token ids, with their digests."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.images.preprocessing import ImageError, open_header, preprocess
from model.tokenizers.clip import READ_WHOLE
from service.errors import ApiError, internal_error, without_frames
from service.inference.shared_resources import SharedResources
from service.inference.throughput import UnitCost
from service.request_context import RequestContext, Timing
from service.schema.items import ImageItem, Item, TextItem, UrlItem
from service.settings import MAX_TEXT_CHARACTERS
from service.thread_pool import INLINE_HASHED_BYTES, INLINE_TOKENIZED_CHARACTERS

log = logging.getLogger(__name__)
CHARACTER_S, PICTURE_S = 1e-6, 0.01  # first guesses
CHARACTERS_PER_PART = 20_000  # tokenized in one go
BYTES_PER_PART = 4 * 2**20
FETCHES_AT_ONCE = 8  # of one request
LARGE_PIXELS = 9_000_000  # those of more, or that take as much memory, are decoded one at a time; a 4K screen has less


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded file; `key` is its name in the cache."""

    file: bytes
    key: str


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids cut to the context; `excess` is the size of a text that does not fit, `key` the name in the cache."""

    ids: list[int]
    excess: str | None
    key: str


Kind = TypeVar("Kind")
Read = Callable[[int, EncodedImage | TokenizedText | ApiError], None]  # told of each item, by its index


class _Failed(Exception):  # noqa: N818
    """Enough has been read to refuse the request."""


class Reader:
    """Reads items for one bundle. `vectors_id` is what the vectors depend on beside it, as its engine says."""

    def __init__(self, bundle: Bundle, shared: SharedResources, vectors_id: str = "") -> None:
        self.bundle, self.shared, self.vectors_id = bundle, shared, vectors_id
        self.tokenizer = bundle.tokenizer()
        self.per_character = UnitCost(CHARACTER_S, span=CHARACTERS_PER_PART)
        self.per_picture = UnitCost(PICTURE_S, span=16)

    async def read_images(
        self, images: Sequence[tuple[int, ImageItem | UrlItem]], call: RequestContext, read: Read, keep_errors: bool
    ) -> None:
        """Undo base64, fetch what is a URL, and hash. Without `keep_errors`, ends at the first URL that fails."""
        files = [(index, item) for index, item in images if isinstance(item, ImageItem)]
        urls = [(index, item) for index, item in images if isinstance(item, UrlItem)]
        if sum(len(item.data) for _, item in files) <= INLINE_HASHED_BYTES:
            self._read_files(files, read)
        else:
            for part in _parts(files, lambda item: len(item.data), BYTES_PER_PART):
                await self.shared.pool.run_in_thread(self._read_files, part, read)
        if urls:
            await self._fetch_all(urls, call, read, keep_errors)

    def _read_files(self, files: Sequence[tuple[int, ImageItem]], read: Read) -> None:
        for index, item in files:
            try:
                read(index, self._picture(item.file()))
            except ApiError as error:
                read(index, without_frames(error))

    async def _fetch_all(
        self, urls: Sequence[tuple[int, UrlItem]], call: RequestContext, read: Read, keep_errors: bool
    ) -> None:
        turns = asyncio.Semaphore(FETCHES_AT_ONCE)

        async def fetch(index: int, item: UrlItem) -> None:
            try:
                async with turns:
                    with call.timing.stage("fetch"):
                        file = await self.shared.fetcher.fetch(item.url, call.reservation)
                pool = self.shared.pool
                read(index, await pool.run_inline_or_in_thread(len(file), INLINE_HASHED_BYTES, self._picture, file))
                return
            except ApiError as error:
                read(index, error.at(item.param))
            except Exception:
                log.exception("a fetch failed")
                read(index, internal_error().at(item.param))
            if not keep_errors:
                raise _Failed

        tasks = [asyncio.ensure_future(fetch(index, item)) for index, item in urls]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            # Not with `gather`, which would raise in this frame what the tasks keep, and the frame keeps the tasks.
            await asyncio.wait(tasks)
            failures = [task.exception() for task in tasks if not task.cancelled()]
            failures.clear()  # asked for, so that asyncio does not log them

    def _picture(self, file: bytes) -> EncodedImage:
        return EncodedImage(file, self._key("image", file))

    def _key(self, modality: str, content: bytes) -> str:
        return f"{self.bundle.digest}:{modality}:{self.vectors_id}:{hashlib.sha256(content).hexdigest()}"

    async def read_texts(self, texts: Sequence[tuple[int, TextItem]], timing: Timing, read: Read) -> None:
        """Tokenize. A text that does not fit the context is still read, cut; its `excess` says so."""
        with timing.stage("tokenize"):
            if characters(texts) <= INLINE_TOKENIZED_CHARACTERS:
                self._tokenize(texts, read)
                return
            # A thread cannot be interrupted; between two parts, a cancelled request ends.
            for part in _parts(texts, _characters, CHARACTERS_PER_PART):
                await self.shared.pool.run_in_thread(self._tokenize, part, read)

    def _tokenize(self, texts: Sequence[tuple[int, TextItem]], read: Read) -> None:
        started = time.perf_counter()
        most = self.bundle.context_length
        beginnings = [item.text.strip()[:MAX_TEXT_CHARACTERS] for _, item in texts]
        rows = self.tokenizer.encode(beginnings, enough=most)
        for (index, item), beginning, row in zip(texts, beginnings, rows, strict=True):
            ids, excess = self.tokenizer.truncate(row), None
            if len(row) > most:
                excess = f"{len(row)} tokens" if len(beginning) <= READ_WHOLE else f"more than {most} tokens"
            elif len(beginning) == MAX_TEXT_CHARACTERS < len(item.text.strip()):
                excess = f"{len(item.text)} characters, of which {MAX_TEXT_CHARACTERS} are read"
            # The ids are the normalised text: whatever differs only in case or spaces has the same ones.
            read(index, TokenizedText(ids, excess, self._key("text", np.asarray(ids, "<i4").tobytes())))
        self.per_character.observe(characters(texts), time.perf_counter() - started)

    def too_long(self, item: TextItem, size: str) -> ApiError:
        """The refusal of a text of this size."""
        limit = f"{self.bundle.context_length} tokens, start and end included"
        message = f'This text has {size}; the model reads {limit}: shorten it or send "truncate": true.'
        return ApiError("text_too_long", message, item.param)

    def expected_s(self, items: Iterable[Item]) -> float:
        """How long it will take to read texts and to decode pictures, where nothing else is at work."""
        texts = [(0, item) for item in items if isinstance(item, TextItem)]
        pictures = sum(isinstance(item, ImageItem | UrlItem) for item in items)
        reading_s = (
            characters(texts) * self.per_character.seconds_per_unit + pictures * self.per_picture.seconds_per_unit
        )
        return reading_s / self.shared.pool.size

    def decode(self, picture: EncodedImage, timing: Timing, most: int | None) -> NDArray[np.uint8] | None:
        """Decode and resize, for a thread: [size, size, 3]; None if it takes more memory than one of `most` pixels.

        ApiErrors name no field.
        """
        settings, config = self.shared.settings, self.bundle.preprocessing
        started = time.perf_counter()
        try:
            with timing.stage("decode"):
                opened = open_header(picture.file, settings.max_image_pixels, config.draft_size)
                width, height = opened.size
                if most is not None and opened.pixels > most:
                    return None
                opened.load()
            self.shared.metrics.decoded_pixels.inc(width * height)
            with timing.stage("preprocess"):
                return preprocess(opened.take(), config, opened.box)
        except ImageError as error:
            raise _told(error) from None
        finally:
            self.per_picture.observe(1, time.perf_counter() - started)


def _told(error: ImageError) -> ApiError:
    text = str(error)
    return ApiError(error.code, text[:1].upper() + text[1:].rstrip(".") + ".")


def characters(texts: Iterable[tuple[int, TextItem]]) -> int:
    """How many are read of the texts, at most."""
    return sum(_characters(item) for _, item in texts)


def _characters(item: TextItem) -> int:
    return min(len(item.text), MAX_TEXT_CHARACTERS)


def _parts(
    items: Sequence[tuple[int, Kind]], size: Callable[[Kind], int], most: int
) -> Iterator[Sequence[tuple[int, Kind]]]:
    """Consecutive slices of about `most` in all."""
    start = total = 0
    for stop, (_, item) in enumerate(items, start=1):
        total += size(item)
        if total >= most or stop == len(items):
            yield items[start:stop]
            start, total = stop, 0
