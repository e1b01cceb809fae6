"""From the items of a request to vectors: one record an item, and stages over the list of them.

read (token ids, file bytes) -> look up (cache) -> run (computations, decode, batcher, engine) -> collect. Admission
control is asked before reading and again before running, when it is known what is left to compute.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.own_labels import own_labels
from model.runtime.engine import Engine
from service.admission import ItemReservation
from service.inference.batcher import Batcher
from service.inference.comparison import Comparison
from service.inference.computations import Computation, Computations, Share, Wait
from service.inference.decoding import DecodeJob, Decoder
from service.inference.padding import fill_up, fill_up_rows, is_padded, length_group, padded_size, padded_sizes
from service.inference.reading import Reader, refuse_too_long
from service.inference.records import (
    EmbeddingResult,
    EncodedImage,
    ItemsByKind,
    Record,
    TokenizedText,
    collect,
    concatenate,
    new_records,
    raise_first_error,
    take_outcome,
)
from service.inference.shared_resources import SharedResources
from service.inference.throughput import ThroughputEstimate
from service.inference.warmup import TowerProfile, warm_up
from service.request_context import RequestContext, Timing
from service.schema.items import Item, TextItem, raise_first_bad

T = TypeVar("T")
ITEMS_AT_ONCE = 256  # of one request; the rest of a larger one takes no places yet


class Pipeline:
    """One served model: bundle, engine, and a batcher for each of its two towers."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        shared: SharedResources,
        profiles: Mapping[str, TowerProfile] | None = None,
    ) -> None:
        """Warms the engine up; with `profiles`, by tower, none are measured."""
        self.bundle, self.engine, self.shared = bundle, engine, shared
        self.device_bytes = 0  # of a GPU's memory, that opening it took
        self.reader = Reader(bundle, shared, engine.vectors_id)
        self.decoder = Decoder(bundle.preprocessing, shared)
        self.comparison = Comparison(bundle, engine, shared.pool)
        self.profiles = warm_up(engine, bundle, shared.settings.max_batch, profiles)
        self._largest = {tower: profile.max_batch for tower, profile in self.profiles.items()}
        self.workers = {tower: profile.workers for tower, profile in self.profiles.items()}
        on_batch, on_halving = shared.metrics.record_batch, shared.metrics.record_halving
        self.images = Batcher(
            "image",
            self.run_images,
            self._largest["image"],
            on_batch=on_batch,
            on_halving=on_halving,
            workers=self.workers["image"],
        )
        self.texts = Batcher(
            "text",
            self.run_texts,
            self._largest["text"],
            group=lambda ids: length_group(bundle, len(ids)),
            on_batch=on_batch,
            on_halving=on_halving,
            workers=self.workers["text"],
        )
        self.towers = (self.images, self.texts)
        self._throughput = {
            kind: ThroughputEstimate(self.profiles[tower].seconds_per_item)
            for kind, tower in ((EncodedImage, "image"), (TokenizedText, "text"))
        }
        self._computations = Computations(shared.cache.put)
        # Not with the first request: of many categories, that one would wait.
        self.own_labels = own_labels(
            self.reader.tokenizer, lambda ids: self.run_texts(ids.tolist()), self._largest["text"]
        )

    @property
    def padded_sizes(self) -> Mapping[str, Sequence[int]]:
        """The sizes that batches of each tower are filled up to; none where they stay as they are."""
        if not is_padded(self.engine.provider):
            return {}
        return {
            tower: [size for size in padded_sizes(self._largest[tower]) if size <= most]
            for tower, most in self.max_batch.items()
        }

    @property
    def max_batch(self) -> Mapping[str, int]:
        """The largest batch of each tower, which falls where memory runs out."""
        return {tower.tower: tower.max_batch for tower in self.towers}

    async def embed(
        self,
        items: Sequence[Item],
        context: RequestContext,
        *,
        truncate: bool | None,
        keep_errors: bool,
        tokens: bool = False,
    ) -> EmbeddingResult:
        """Embed the items. Raises the error of the first that fails, or with `keep_errors` keeps each in its place.

        An image of a mixture model, which has no one vector, has its mixture tokens with `tokens`, else an error.
        """
        if not tokens:
            items = self.comparison.one_vector_each(items)
        if not keep_errors:
            raise_first_bad(items)
        context.items += len(items)
        context.digest = self.bundle.digest
        with self.shared.admission.reserve_items(min(len(items), ITEMS_AT_ONCE)) as reservation:
            return await self._embed(items, context, truncate, keep_errors, reservation)

    async def embed_prompts(
        self, prompts: Sequence[TextItem], context: RequestContext, *, truncate: bool | None
    ) -> EmbeddingResult:
        """Embed what may be many texts, ITEMS_AT_ONCE at a time, so that they hold no more memory than they need."""
        parts: list[EmbeddingResult] = []
        with self.shared.admission.reserve_items(min(len(prompts), ITEMS_AT_ONCE)) as reservation:
            for start in range(0, len(prompts), ITEMS_AT_ONCE):
                part = prompts[start : start + ITEMS_AT_ONCE]
                parts.append(await self._embed(part, context, truncate, False, reservation))
        return concatenate(parts)

    async def _embed(
        self,
        items: Sequence[Item],
        context: RequestContext,
        truncate: bool | None,
        keep_errors: bool,
        reservation: ItemReservation,
    ) -> EmbeddingResult:
        """All stages, in their order."""
        records = new_records(items)
        by_kind = ItemsByKind.of(records)
        images = len(by_kind.files) + len(by_kind.urls)
        reservation.expect(self.reader.expected_s(by_kind.texts) + self.decoder.expected_s(images))
        await self.reader.read(by_kind, context, keep_errors)
        if not (self.shared.settings.truncate if truncate is None else truncate):
            refuse_too_long(by_kind.texts, self.bundle.context_length)
        if not keep_errors:
            raise_first_error(records)
        readable = [record for record in records if record.error is None]
        await self._look_up(readable, context.timing)
        missing = [record for record in readable if record.vector is None]
        if missing:
            reservation.expect(self._expected_running_s(missing))
        for start in range(0, len(missing), ITEMS_AT_ONCE):
            part = missing[start : start + ITEMS_AT_ONCE]
            await self._run(part, context.timing, keep_errors, reservation)
            if not keep_errors:
                raise_first_error(part)
        return collect(records, self.bundle.dimensions, self.bundle.mixture is not None)

    def _expected_running_s(self, records: Sequence[Record]) -> float:
        images = sum(isinstance(record.payload, EncodedImage) for record in records)
        running_s = sum(self._throughput[type(_payload(record))].seconds_per_item for record in records)
        return self.decoder.expected_s(images) + running_s

    async def _look_up(self, records: Sequence[Record], timing: Timing) -> None:
        """Set the vectors that the cache has."""
        with timing.stage("cache"):
            for numbers, part in self._by_length(records):
                found = await self.shared.cache.get([_payload(record).key for record in part], numbers)
                for record, vector in zip(part, found, strict=True):
                    record.vector = vector

    def _by_length(self, records: Sequence[Record]) -> Iterable[tuple[int, Sequence[Record]]]:
        """How many numbers a vector has, and the records whose have so many: more for an image of a mixture model."""
        if self.bundle.mixture is None:
            return [(self.bundle.dimensions, records)]
        texts = [record for record in records if isinstance(record.payload, TokenizedText)]
        images = [record for record in records if isinstance(record.payload, EncodedImage)]
        return [(self.bundle.dimensions, texts), (math.prod(self.bundle.image_shape), images)]

    async def _run(
        self, records: Sequence[Record], timing: Timing, keep_errors: bool, reservation: ItemReservation
    ) -> None:
        """Set the vector or the error of each record. Without `keep_errors`, the first error ends the wait for all."""
        loop = asyncio.get_running_loop()
        wait = Wait(loop, impatient=not keep_errors)
        try:
            self._start(records, wait, timing, loop, reservation)
            await wait.future
            for record in records:
                take_outcome(record)
        finally:
            for record in records:
                if record.computation is not None:
                    record.computation.leave(wait)
                    record.computation = None

    def _start(
        self,
        records: Sequence[Record],
        wait: Wait,
        timing: Timing,
        loop: asyncio.AbstractEventLoop,
        reservation: ItemReservation,
    ) -> None:
        """Set the computation of each record: the one in progress for its key, or else a new one."""
        started: dict[type, list[Computation]] = {TokenizedText: [], EncodedImage: []}
        shares = {kind: Share(throughput, reservation) for kind, throughput in self._throughput.items()}
        for record in records:
            payload = _payload(record)
            computation = self._computations.get(payload.key)
            if computation is None:
                kind = type(payload)
                queued = payload.ids if isinstance(payload, TokenizedText) else payload
                computation = self._computations.start(payload.key, queued, timing, loop, shares[kind])
                started[kind].append(computation)
            record.computation = computation
            computation.join(wait)
        if texts := started[TokenizedText]:
            self.texts.put_soon(texts, loop)
        if images := started[EncodedImage]:
            DecodeJob(self.decoder, self.images, timing, images).start()

    def run_images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One batch, each [size, size, 3] -> [batch, numbers of its vectors]. Raises what the engine raises."""
        with self.engine.image_session.stacked(self._filled_up("image", pixels)) as batch:
            vectors = self.engine.embed_images(batch)[: len(pixels)]
            # All that is one image's goes through queues and caches as one row, several vectors too.
            return vectors.reshape(len(vectors), -1)

    def run_texts(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """One batch, each the token ids of a text -> [batch, dimensions]. Raises what the engine raises."""
        ids = self.reader.tokenizer.pad(self._filled_up("text", rows))
        if is_padded(self.engine.provider):
            ids = fill_up_rows(ids, self.bundle)
        return self.engine.embed_texts(ids)[: len(rows)]

    def _filled_up(self, tower: str, payloads: Sequence[T]) -> Sequence[T]:
        """The batch, and on NVIDIA's providers padding up to the next size that warm-up has run."""
        if not is_padded(self.engine.provider):
            return payloads
        size = padded_size(len(payloads), self._largest[tower])
        self.shared.metrics.padded_items.labels(tower).inc(size - len(payloads))
        return fill_up(payloads, size)

    def close(self) -> None:
        """End the threads; what is still queued fails with `unavailable`."""
        for tower in self.towers:
            tower.close()


def _payload(record: Record) -> EncodedImage | TokenizedText:
    assert record.payload is not None, "read before"
    return record.payload
