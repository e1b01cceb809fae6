"""The way of one request: admission, decoding and tokenizing, the batcher of its tower, vectors in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.engine import Engine
from model.preprocessing import ImageError, decode, preprocess
from service.admission import Admission
from service.batcher import Batcher, Vector
from service.errors import ApiError
from service.items import BadItem, ImageItem, Item, TextItem, raise_first_bad
from service.metrics import Metrics
from service.settings import MAX_TEXT_CHARACTERS, Settings
from service.timing import Call, Timing
from service.warmup import warm_up

P = ParamSpec("P")
T = TypeVar("T")
TOKENS_PER_GROUP = 16  # texts share a batch if their lengths fall into the same 16
CHARACTERS_INLINE = 1_000  # up to here, tokenizing takes less time than handing it to a thread
CHARACTERS_PER_PART = 20_000  # tokenized in one go
PROBE_S = 5.0


@dataclass(slots=True)
class Embedded:
    """The vectors of a request's items in their order; a failed item has an error and a row of zeros."""

    vectors: NDArray[np.float32]  # [items, dimensions]
    truncated: list[bool]
    errors: dict[int, ApiError]
    usage: dict[str, int]


class Pipeline:
    """One served model: bundle, engine, two batchers and the threads that decode for them."""

    def __init__(self, bundle: Bundle, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.bundle, self.engine, self.settings, self.metrics = bundle, engine, settings, metrics
        self.tokenizer = bundle.tokenizer()
        self.admission = Admission(settings.queue_items, metrics.queue_items)
        self.max_batch = warm_up(engine, bundle, settings.max_batch)
        self.images = Batcher("image", self._run_images, self.max_batch["image"], on_batch=metrics.batch_done)
        self.texts = Batcher("text", self._run_texts, self.max_batch["text"], _length_group, metrics.batch_done)
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.pool = ThreadPoolExecutor(self.cores, thread_name_prefix="decode")
        metrics.model_info.labels(bundle.id, bundle.digest, bundle.precision, engine.provider).set(1)

    async def embed(self, items: Sequence[Item], call: Call, *, truncate: bool | None, keep_errors: bool) -> Embedded:
        """Embed the items. Raises the first failure, or with `keep_errors` keeps each in its place."""
        if not keep_errors:
            raise_first_bad(items)
        call.items += len(items)
        with self.admission.admit(len(items)):
            truncate = self.settings.truncate if truncate is None else truncate
            return await self._embed(items, call.timing, truncate, keep_errors)

    async def _embed(self, items: Sequence[Item], timing: Timing, truncate: bool, keep_errors: bool) -> Embedded:
        texts = [(index, item) for index, item in enumerate(items) if isinstance(item, TextItem)]
        images = [(index, item) for index, item in enumerate(items) if isinstance(item, ImageItem)]
        result = Embedded(
            np.zeros((len(items), self.bundle.dimensions), np.float32),
            [False] * len(items),
            {index: item.error for index, item in enumerate(items) if isinstance(item, BadItem)},
            {"texts": len(texts), "tokens": 0, "images": len(images)},
        )
        work: dict[int, asyncio.Future[Vector]] = {}
        try:
            turns = asyncio.Semaphore(2 * self.cores)  # a request of many pictures leaves room for others between them
            for index, image in images:
                work[index] = asyncio.ensure_future(self._embed_image(image, timing, turns))
            if texts:
                work |= await self._submit_texts(texts, timing, truncate, keep_errors, result)
            if work:
                when = asyncio.ALL_COMPLETED if keep_errors else asyncio.FIRST_EXCEPTION
                await asyncio.wait(work.values(), return_when=when)
            _collect(work, result, keep_errors)
        finally:
            _abandon(work.values())
        return result

    async def _embed_image(self, item: ImageItem, timing: Timing, turns: asyncio.Semaphore) -> Vector:
        async with turns:
            pixels = await self.in_thread(self._load, item, timing)
        [future] = self.images.submit([pixels], timing)
        return await future

    def _load(self, item: ImageItem, timing: Timing) -> NDArray[np.uint8]:
        """File -> pixels [size, size, 3]; in a thread of the pool."""
        config = self.bundle.preprocessing
        try:
            with timing.stage("decode"):
                image = decode(item.file(), self.settings.max_image_pixels, config.draft_size)
            self.metrics.decoded_pixels.inc(image.width * image.height)
            with timing.stage("preprocess"):
                return preprocess(image, config)
        except ImageError as error:
            raise ApiError(error.code, _sentence(str(error)), item.param) from None

    async def _submit_texts(
        self,
        texts: Sequence[tuple[int, TextItem]],
        timing: Timing,
        truncate: bool,
        keep_errors: bool,
        result: Embedded,
    ) -> dict[int, asyncio.Future[Vector]]:
        """Tokenize all texts at once and queue those that fit; the others go into `result.errors`."""
        started = time.perf_counter()
        rows = await self._tokenize_all(texts)
        timing.record("tokenize", time.perf_counter() - started)
        fitting: dict[int, list[int]] = {}
        for (index, item), ids in zip(texts, rows, strict=True):
            result.truncated[index] = len(ids) > self.bundle.context_length
            if not ids or (result.truncated[index] and not truncate):
                result.errors[index] = self._too_long(item, len(ids))
                if not keep_errors:
                    raise result.errors[index]
            else:
                fitting[index] = self.tokenizer.truncate(ids)
        result.usage["tokens"] = sum(map(len, fitting.values()))
        return dict(zip(fitting, self.texts.submit(list(fitting.values()), timing), strict=True))

    async def _tokenize_all(self, texts: Sequence[tuple[int, TextItem]]) -> list[list[int]]:
        if sum(len(item.text) for _, item in texts) <= CHARACTERS_INLINE:
            return self._tokenize(texts)
        rows: list[list[int]] = []
        for part in _parts(texts):  # a thread cannot be interrupted; between two parts, a cancelled request ends
            rows += await self.in_thread(self._tokenize, part)
        return rows

    def _tokenize(self, texts: Sequence[tuple[int, TextItem]]) -> list[list[int]]:
        """Token ids of each text; none of one with so many characters that it is refused without counting."""
        short = [item.text if len(item.text) <= MAX_TEXT_CHARACTERS else "" for _, item in texts]
        return [ids if text else [] for text, ids in zip(short, self.tokenizer.encode(short), strict=True)]

    def _too_long(self, item: TextItem, tokens: int) -> ApiError:
        size = f"{tokens} tokens" if tokens else f"{len(item.text)} characters"
        limit = f"{self.bundle.context_length} tokens, start and end included"
        cure = 'shorten it or send "truncate": true' if tokens else f"send at most {MAX_TEXT_CHARACTERS} characters"
        return ApiError("text_too_long", f"This text has {size}; the model reads {limit}: {cure}.", item.param)

    def _run_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.engine.embed_images(np.stack(pixels))

    def _run_texts(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        return self.engine.embed_texts(self.tokenizer.pad(rows))

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in the pool; cancelled before it starts, it never does."""
        return await asyncio.wrap_future(self.pool.submit(work, *args, **kwargs))

    async def healthy(self) -> bool:
        """Both towers run. One whose last execution failed has to prove itself with a forward pass."""
        if not (self.images.alive and self.texts.alive):
            return False
        size = self.bundle.image_size
        probes: list[tuple[Batcher, Any]] = [
            (self.images, np.zeros((size, size, 3), np.uint8)),
            (self.texts, self.tokenizer.encode(["probe"])[0]),
        ]
        futures = [
            future
            for tower, probe in probes
            if tower.failing
            for future in tower.submit([probe], Timing(), urgent=True)
        ]
        try:
            async with asyncio.timeout(PROBE_S):
                await asyncio.gather(*futures)
        except (ApiError, TimeoutError):
            return False
        return True

    def close(self) -> None:
        """End the threads; what still waits is told that the service stops."""
        self.images.close()
        self.texts.close()
        self.pool.shutdown(cancel_futures=True)


def _parts(texts: Sequence[tuple[int, TextItem]]) -> Iterator[Sequence[tuple[int, TextItem]]]:
    """Consecutive slices of about CHARACTERS_PER_PART characters."""
    start = characters = 0
    for stop, (_, item) in enumerate(texts, start=1):
        characters += len(item.text)
        if characters >= CHARACTERS_PER_PART or stop == len(texts):
            yield texts[start:stop]
            start, characters = stop, 0


def _length_group(ids: list[int]) -> int:
    return (len(ids) - 1) // TOKENS_PER_GROUP


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _abandon(futures: Iterable[asyncio.Future[Vector]]) -> None:
    """Take what is not done out of its queue, and note the failures that nobody will ask for."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()


def _collect(work: dict[int, asyncio.Future[Vector]], result: Embedded, keep_errors: bool) -> None:
    """Move outcomes into `result`; without `keep_errors`, raise the failure of the first item that has one."""
    for index in sorted(work):
        future = work[index]
        if not future.done():  # another item failed and ended the wait
            continue
        error = future.exception()
        if error is None:
            result.vectors[index] = future.result()
        elif keep_errors and isinstance(error, ApiError):
            result.errors[index] = error
        else:
            raise error
