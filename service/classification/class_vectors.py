"""Class vectors: labels in prompt templates, embedded once for each model and cached."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
        """SHA-256 over all of it: the key in the cache."""
        content = orjson.dumps([list(self.labels), list(self.templates), self.without_label, self.truncate])
        return hashlib.sha256(content).hexdigest()

    def items(self) -> Sequence[TextItem]:
        """The prompts, label by label."""
        return _FilledTemplates(self)


class _FilledTemplates(Sequence[TextItem]):
    """Filled when they are asked for: with long labels and many templates, all at once would take gigabytes."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def __len__(self) -> int:
        return (len(self._prompts.labels) + self._prompts.without_label) * len(self._prompts.templates)

    @overload
    def __getitem__(self, index: int) -> TextItem: ...

    @overload
    def __getitem__(self, index: slice) -> list[TextItem]: ...

    def __getitem__(self, index: int | slice) -> TextItem | list[TextItem]:
        positions = range(len(self))[index]
        return self._fill(positions) if isinstance(positions, int) else [self._fill(each) for each in positions]

    def _fill(self, position: int) -> TextItem:
        label_index, template_index = divmod(position, len(self._prompts.templates))
        template = self._prompts.templates[template_index]
        if label_index == len(self._prompts.labels):
            return TextItem(fill(template, "").strip(), "templates")
        return TextItem(fill(template, self._prompts.labels[label_index]), f"labels.{label_index}")


@dataclass(frozen=True, slots=True)
class ClassVectors:
    """A row for each label [labels, dimensions] and, if wanted, one without a label; and what they took to embed."""

    vectors: NDArray[np.float32]
    usage: dict[str, int]


class ClassVectorCache:
    """Class vectors by model and prompts, the least recently used dropped first. Lives on the event loop."""

    def __init__(
        self,
        shared: SharedResources,
        use: Callable[[Pipeline], AbstractContextManager[Pipeline]],
        max_bytes: int | None = None,
    ) -> None:
        """`use` keeps a pipeline open meanwhile. `max_bytes` is by default what LARGEST_SETS need."""
        self._pool, self._use = shared.pool, use
        largest_sets = LARGEST_SETS * BYTES_PER_LABEL * shared.settings.max_labels
        self._max_bytes = max(LEAST_BYTES, largest_sets) if max_bytes is None else max_bytes
        self._cached: LRUCache[str, ClassVectors] = LRUCache(self._max_bytes, getsizeof=_size)
        self._single_flight: SingleFlight[ClassVectors] = SingleFlight()
        self._kept: set[asyncio.Future[ClassVectors]] = set()

    async def get(
        self, pipeline: Pipeline, prompts: Prompts, context: RequestContext, *, finish: bool = False
    ) -> ClassVectors:
        """The class vectors of that model, embedded now if they are not cached.

        Embedding goes on when the one who asked is cancelled: while others wait for the same, or with `finish` in any
        case. Raises the first failure, of `labels.N` or `templates`.
        """
        if prompts.without_label and pipeline.own_labels is not None:  # to it, no label is no category
            prompts = replace(prompts, without_label=False)
        key = f"{pipeline.bundle.digest}:{pipeline.engine.vectors_id}:{await self._digest(prompts)}"
        if (cached := self._cached.get(key)) is not None:
            return cached
        waiting = self._single_flight.join(key)
        if waiting is None:
            self._single_flight.start(key, asyncio.ensure_future(self._embed(pipeline, prompts, key, context)))
            waiting = self._join(key)
            if finish:
                self._keep(key)
        try:
            return await waiting
        finally:
            del waiting  # raised in this frame, its error would lead back to it

    async def _digest(self, prompts: Prompts) -> str:
        characters = sum(map(len, prompts.labels)) + sum(map(len, prompts.templates))
        return await self._pool.run_inline_or_in_thread(characters, INLINE_PROMPT_CHARACTERS, lambda: prompts.digest)

    async def _embed(self, pipeline: Pipeline, prompts: Prompts, key: str, context: RequestContext) -> ClassVectors:
        with self._use(pipeline):
            embedded = await pipeline.embed_prompts(prompts.items(), context, truncate=prompts.truncate)
            by_label = embedded.vectors.reshape(-1, len(prompts.templates), pipeline.bundle.dimensions)
            vectors = await self._pool.run_inline_or_in_thread(
                len(prompts.labels) * len(prompts.templates), INLINE_AVERAGED_PROMPTS, class_vectors, by_label
            )
        embedded_classes = ClassVectors(vectors, embedded.usage)
        if _size(embedded_classes) <= self._max_bytes:
            self._cached[key] = embedded_classes
        return embedded_classes

    def _join(self, key: str) -> asyncio.Future[ClassVectors]:
        waiting = self._single_flight.join(key)
        assert waiting is not None, "started before"
        return waiting

    def _keep(self, key: str) -> None:
        """Wait too, so that a large set is finished though all who asked for it have given up."""
        waiting = self._join(key)
        self._kept.add(waiting)
        waiting.add_done_callback(self._release)

    def _release(self, waiting: asyncio.Future[ClassVectors]) -> None:
        self._kept.discard(waiting)
        if not waiting.cancelled():
            waiting.exception()  # those who asked have got it; without this, asyncio would log it


def _size(classes: ClassVectors) -> int:
    return classes.vectors.nbytes + 1024
