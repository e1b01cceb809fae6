"""Class vectors: what labels in templates become, embedded once for each model and remembered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import orjson
from cachetools import LRUCache
from numpy.typing import NDArray

from model.zeroshot import class_vectors, fill
from service.inference.pipeline import Pipeline
from service.inference.shared_resources import SharedResources
from service.inference.single_flight import SingleFlight
from service.request_context import RequestContext
from service.schema.items import TextItem
from service.thread_pool import INLINE_AVERAGED_PROMPTS, INLINE_PROMPT_CHARACTERS

LEAST_BYTES = 64 * 2**20
LARGEST_SETS = 4  # there is room for so many with as many labels as are allowed
BYTES_PER_LABEL = 4096  # of vectors with 1,024 dimensions


@dataclass(frozen=True)
class Prompts:
    """Each label in each template and, if wanted, last the templates without a label."""

    labels: Sequence[str]
    templates: Sequence[str]
    without_label: bool
    truncate: bool

    @cached_property
    def digest(self) -> str:
        """Differs when anything does."""
        content = orjson.dumps([list(self.labels), list(self.templates), self.without_label, self.truncate])
        return hashlib.sha256(content).hexdigest()

    def items(self) -> Sequence[TextItem]:
        """The prompts, label by label."""
        return _Filled(self)


class _Filled(Sequence[TextItem]):
    """Made when they are asked for: with long labels and many templates, all at once would take gigabytes."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def __len__(self) -> int:
        return (len(self._prompts.labels) + self._prompts.without_label) * len(self._prompts.templates)

    @overload
    def __getitem__(self, index: int) -> TextItem: ...

    @overload
    def __getitem__(self, index: slice) -> list[TextItem]: ...

    def __getitem__(self, index: int | slice) -> TextItem | list[TextItem]:
        places = range(len(self))[index]
        return self._fill(places) if isinstance(places, int) else [self._fill(place) for place in places]

    def _fill(self, place: int) -> TextItem:
        label, template = divmod(place, len(self._prompts.templates))
        words = self._prompts.templates[template]
        if label == len(self._prompts.labels):
            return TextItem(fill(words, "").strip(), "templates")
        return TextItem(fill(words, self._prompts.labels[label]), f"labels.{label}")


@dataclass(frozen=True, slots=True)
class ClassVectors:
    """A row for each label [labels, dimensions] and, if wanted, one without a label; and what they took to embed."""

    vectors: NDArray[np.float32]
    usage: dict[str, int]


class ClassVectorCache:
    """Class vectors by model and prompts. Lives on the event loop."""

    def __init__(self, shared: SharedResources) -> None:
        self._shared = shared
        self._most_bytes = max(LEAST_BYTES, LARGEST_SETS * BYTES_PER_LABEL * shared.settings.max_labels)
        self._known: LRUCache[str, ClassVectors] = LRUCache(self._most_bytes, getsizeof=_size)
        self._single_flight: SingleFlight[ClassVectors] = SingleFlight()
        self._kept: set[asyncio.Future[ClassVectors]] = set()

    async def get(
        self, pipeline: Pipeline, prompts: Prompts, call: RequestContext, *, finish: bool = False
    ) -> ClassVectors:
        """The class vectors of that model, embedded now if they are not known.

        Goes on when the one who asked leaves: while others wait for the same, or with `finish` in any case. Raises the
        first failure, of `labels.N` or `templates`.
        """
        key = f"{pipeline.bundle.digest}:{pipeline.engine.vectors_id}:{await self._digest(prompts)}"
        if (known := self._known.get(key)) is not None:
            return known
        waiting = self._single_flight.join(key)
        if waiting is None:
            work = asyncio.ensure_future(self._embed(pipeline, prompts, key, call))
            waiting = self._single_flight.start(key, work)
            if finish:
                self._keep(key)
        try:
            return await waiting
        finally:
            del waiting  # raised in this frame, its error would lead back to it

    async def _digest(self, prompts: Prompts) -> str:
        characters = sum(map(len, prompts.labels)) + sum(map(len, prompts.templates))
        pool = self._shared.pool
        return await pool.run_inline_or_in_thread(characters, INLINE_PROMPT_CHARACTERS, lambda: prompts.digest)

    async def _embed(self, pipeline: Pipeline, prompts: Prompts, key: str, call: RequestContext) -> ClassVectors:
        with pipeline.used():
            embedded = await pipeline.embed_prompts(prompts.items(), call, truncate=prompts.truncate)
            by_label = embedded.vectors.reshape(-1, len(prompts.templates), pipeline.bundle.dimensions)
            vectors = await self._shared.pool.run_inline_or_in_thread(
                len(prompts.labels) * len(prompts.templates), INLINE_AVERAGED_PROMPTS, class_vectors, by_label
            )
        classes = ClassVectors(vectors, embedded.usage)
        if _size(classes) <= self._most_bytes:
            self._known[key] = classes
        return classes

    def _keep(self, key: str) -> None:
        """Wait too, so that those who want a large set are not all too impatient to ever get it."""
        waiting = self._single_flight.join(key)
        assert waiting is not None
        self._kept.add(waiting)
        waiting.add_done_callback(self._done)

    def _done(self, waiting: asyncio.Future[ClassVectors]) -> None:
        self._kept.discard(waiting)
        if not waiting.cancelled():
            waiting.exception()  # told to those who asked; without this, asyncio would log it


def _size(classes: ClassVectors) -> int:
    return classes.vectors.nbytes + 1024
