"""The way of one request: admission, reading, the cache, decoding, the batcher of its tower, vectors in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine
from service.admission import ItemReservation
from service.errors import ApiError, without_frames
from service.inference.batcher import Batcher
from service.inference.decoding import DecodeJob
from service.inference.embedded import EmbeddingResult
from service.inference.fair_queue import Vector
from service.inference.reading import EncodedImage, Reader, TokenizedText
from service.inference.shared_resources import SharedResources
from service.inference.single_flight import SingleFlight
from service.inference.throughput import ThroughputEstimate
from service.inference.warmup import TowerProfile, warm_up
from service.request_context import RequestContext, Timing
from service.schema.items import BadItem, ImageItem, Item, TextItem, UrlItem, raise_first_bad
from service.threads import in_daemon_thread

TOKENS_PER_GROUP = 16  # texts share a batch if their lengths fall into the same 16
ITEMS_AT_ONCE = 256  # of one request; the rest of a larger one takes no places yet
PROBE_S = 5.0


class Pipeline:
    """One served model: bundle, engine and two batchers. Closed when it was retired and its last user has left."""

    def __init__(
        self, bundle: Bundle, engine: Engine, shared: SharedResources, known: Mapping[str, TowerProfile] | None = None
    ) -> None:
        """Warms the engine up; what is `known` of its towers is not measured again."""
        self.bundle, self.engine, self.shared = bundle, engine, shared
        self.reader = Reader(bundle, shared, engine.vectors_id)
        self.measured = warm_up(engine, bundle, shared.settings.max_batch, known)
        self.max_batch = {tower: measured.max_batch for tower, measured in self.measured.items()}
        done = shared.metrics.batch_done
        self.workers = {tower: measured.workers for tower, measured in self.measured.items()}
        self.images = Batcher(
            "image", self._run_images, self.max_batch["image"], on_batch=done, workers=self.workers["image"]
        )
        self.texts = Batcher(
            "text", self._run_texts, self.max_batch["text"], self._length_group, done, self.workers["text"]
        )
        self.towers = (self.images, self.texts)
        self._throughput = {
            EncodedImage: ThroughputEstimate(self.measured["image"].seconds_per_item),
            TokenizedText: ThroughputEstimate(self.measured["text"].seconds_per_item),
        }
        self._single_flight: SingleFlight[Vector] = SingleFlight()
        self._users = 0
        self._retired: asyncio.Event | None = None

    @contextmanager
    def used(self) -> Iterator[Pipeline]:
        """Keep it open meanwhile."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if self._retired is not None and not self._users:
                self._retired.set()

    async def retire(self) -> None:
        """Wait for the last user and close. New ones must not come: take it out of their reach first."""
        self._retired = asyncio.Event()
        if self._users:
            await self._retired.wait()
        await in_daemon_thread(self.close)

    async def embed(
        self, items: Sequence[Item], call: RequestContext, *, truncate: bool | None, keep_errors: bool
    ) -> EmbeddingResult:
        """Embed the items. Raises the first failure, or with `keep_errors` keeps each in its place."""
        if not keep_errors:
            raise_first_bad(items)
        call.items += len(items)
        call.digest = self.bundle.digest
        with self.shared.admission.reserve_items(min(len(items), ITEMS_AT_ONCE)) as reservation:
            return await self._embed(items, call, truncate, keep_errors, reservation)

    async def embed_prompts(
        self, prompts: Sequence[TextItem], call: RequestContext, *, truncate: bool | None
    ) -> EmbeddingResult:
        """Embed what may be many texts, a few at a time, so that they take no more places than they need."""
        parts: list[EmbeddingResult] = []
        with self.shared.admission.reserve_items(min(len(prompts), ITEMS_AT_ONCE)) as reservation:
            for start in range(0, len(prompts), ITEMS_AT_ONCE):
                part = prompts[start : start + ITEMS_AT_ONCE]
                parts.append(await self._embed(part, call, truncate, False, reservation))
        usage = {name: sum(part.usage[name] for part in parts) for name in ("texts", "tokens", "images")}
        truncated = [cut for part in parts for cut in part.truncated]
        return EmbeddingResult(np.concatenate([part.vectors for part in parts]), truncated, {}, usage)

    async def _embed(
        self,
        items: Sequence[Item],
        call: RequestContext,
        truncate: bool | None,
        keep_errors: bool,
        reservation: ItemReservation,
    ) -> EmbeddingResult:
        reservation.expect(self.reader.expected_s(items))
        read = await self._read(items, call, keep_errors)
        result = self._result(items, read, self.shared.settings.truncate if truncate is None else truncate)
        if result.errors and not keep_errors:
            raise without_frames(result.errors[min(result.errors)])
        good = {
            index: each for index, each in read.items() if index not in result.errors and not isinstance(each, ApiError)
        }
        missing = await self._from_cache(good, result, call.timing)
        if not missing:
            result.count(good)
            return result
        reservation.expect(self._expected_s(items, missing))
        indices = list(missing)
        for start in range(0, len(indices), ITEMS_AT_ONCE):
            part = {index: missing[index] for index in indices[start : start + ITEMS_AT_ONCE]}
            await self._run(part, items, result, call.timing, keep_errors, reservation)
        result.count(good)
        return result

    async def _run(
        self,
        missing: Mapping[int, EncodedImage | TokenizedText],
        items: Sequence[Item],
        result: EmbeddingResult,
        timing: Timing,
        keep_errors: bool,
        reservation: ItemReservation,
    ) -> None:
        """Compute what is missing into `result`."""
        work: dict[int, asyncio.Future[Vector]] = {}
        try:
            self._start(missing, timing, work, reservation)
            when = asyncio.ALL_COMPLETED if keep_errors else asyncio.FIRST_EXCEPTION
            await asyncio.wait(work.values(), return_when=when)
            result.collect(work, items, keep_errors)
        finally:
            _abandon(work.values())

    async def _read(
        self, items: Sequence[Item], call: RequestContext, keep_errors: bool
    ) -> dict[int, EncodedImage | TokenizedText | ApiError]:
        read: dict[int, EncodedImage | TokenizedText | ApiError] = {}
        texts = [(index, item) for index, item in enumerate(items) if isinstance(item, TextItem)]
        images = [(index, item) for index, item in enumerate(items) if isinstance(item, ImageItem | UrlItem)]
        if texts:
            await self.reader.read_texts(texts, call.timing, read.__setitem__)
        if images:
            await self.reader.read_images(images, call, read.__setitem__, keep_errors)
        read.update({index: item.error for index, item in enumerate(items) if isinstance(item, BadItem)})
        return read

    def _result(
        self, items: Sequence[Item], read: Mapping[int, EncodedImage | TokenizedText | ApiError], truncate: bool
    ) -> EmbeddingResult:
        """The answer before any vector is known."""
        vectors = np.zeros((len(items), self.bundle.dimensions), np.float32)
        result = EmbeddingResult(vectors, [False] * len(items), {}, {"texts": 0, "tokens": 0, "images": 0})
        for index, each in read.items():  # not all, where reading ended at the first that failed
            item = items[index]
            if isinstance(each, ApiError):
                result.errors[index] = each
            elif isinstance(each, TokenizedText) and isinstance(item, TextItem):
                result.truncated[index] = each.excess is not None
                if each.excess is not None and not truncate:
                    result.errors[index] = self.reader.too_long(item, each.excess)
        return result

    async def _from_cache(
        self, wanted: Mapping[int, EncodedImage | TokenizedText], result: EmbeddingResult, timing: Timing
    ) -> dict[int, EncodedImage | TokenizedText]:
        """Fill in the vectors that the cache has; give back the rest."""
        with timing.stage("cache"):
            found = await self.shared.cache.get([each.key for each in wanted.values()], self.bundle.dimensions)
        missing: dict[int, EncodedImage | TokenizedText] = {}
        for (index, each), vector in zip(wanted.items(), found, strict=True):
            if vector is None:
                missing[index] = each
            else:
                result.vectors[index] = vector
        return missing

    def _expected_s(self, items: Sequence[Item], missing: Mapping[int, EncodedImage | TokenizedText]) -> float:
        """How long the items that are missing will take where nothing else is at work."""
        decoding_s = self.reader.expected_s(
            items[index] for index, each in missing.items() if isinstance(each, EncodedImage)
        )
        return decoding_s + sum(self._throughput[type(each)].seconds_per_item for each in missing.values())

    def _start(
        self,
        missing: Mapping[int, EncodedImage | TokenizedText],
        timing: Timing,
        work: dict[int, asyncio.Future[Vector]],
        reservation: ItemReservation,
    ) -> None:
        """Join what is already being computed, and begin the rest; into `work`, by index."""
        new_texts: dict[str, tuple[int, TokenizedText]] = {}
        new_pictures: list[tuple[EncodedImage, asyncio.Future[Vector]]] = []
        for index, each in missing.items():
            if (future := self._single_flight.join(each.key)) is not None:
                work[index] = future
            elif isinstance(each, EncodedImage):
                new_pictures.append((each, asyncio.get_running_loop().create_future()))
                work[index] = self._launch(*new_pictures[-1], reservation)
            else:
                new_texts.setdefault(each.key, (index, each))
        if new_pictures:
            DecodeJob(self.reader, self.images, timing).start(new_pictures)
        futures = self.texts.submit([text.ids for _, text in new_texts.values()], timing) if new_texts else ()
        for (index, text), future in zip(new_texts.values(), futures, strict=True):
            work[index] = self._launch(text, future, reservation)
        for index, each in missing.items():
            if index not in work:  # a text that this request holds more than once
                twin = self._single_flight.join(each.key)
                assert twin is not None
                work[index] = twin

    def _launch(
        self, item: EncodedImage | TokenizedText, future: asyncio.Future[Vector], reservation: ItemReservation
    ) -> asyncio.Future[Vector]:
        throughput = self._throughput[type(item)]
        item_s = throughput.seconds_per_item

        def landed(done: asyncio.Future[Vector]) -> None:
            answered = not done.cancelled() and done.exception() is None
            throughput.finish_item(answered)
            reservation.done(item_s)
            if answered:
                self.shared.cache.put(item.key, done.result())

        throughput.start_item()
        future.add_done_callback(landed)
        return self._single_flight.start(item.key, future)

    def _run_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.engine.embed_images(np.stack(pixels))

    def _run_texts(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        return self.engine.embed_texts(self.reader.tokenizer.pad(rows))

    def _length_group(self, ids: list[int]) -> int:
        return (self.bundle.row_length(len(ids)) - 1) // TOKENS_PER_GROUP

    async def healthy(self, patience_s: float = PROBE_S) -> bool:
        """Both towers run. One whose last execution failed has to prove itself with a forward pass."""
        if not all(tower.alive for tower in self.towers):
            return False
        size = self.bundle.image_size
        probes: list[tuple[Batcher, Any]] = [
            (self.images, np.zeros((size, size, 3), np.uint8)),
            (self.texts, self.reader.tokenizer.encode(["probe"])[0]),
        ]
        try:
            futures = [
                future
                for tower, probe in probes
                if tower.failing
                for future in tower.submit([probe], Timing(), urgent=True)
            ]
        except ApiError:
            return False
        if futures:
            await asyncio.wait(futures, timeout=patience_s)
        good = [future.done() and future.exception() is None for future in futures]
        _abandon(futures)
        return all(good)

    def close(self) -> None:
        """End the threads; what still waits is told that the service stops."""
        for tower in self.towers:
            tower.close()


def _abandon(futures: Iterable[asyncio.Future[Vector]]) -> None:
    """Take what is not done out of its queue, and note the failures that nobody will ask for."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()
