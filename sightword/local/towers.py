"""Items to vectors: read in threads, run in batches, put in their places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from model.bundle import Bundle
from model.prefetch import prefetch
from model.runtime.engine import Engine
from model.runtime.processor import usable_cores
from model.runtime.providers import ON_CPU
from sightword.errors import InferenceError, SightwordError, UnsupportedModalityError
from sightword.local.comparison import NO_ONE_VECTOR
from sightword.local.reading import Ids, Pixels, Reader
from sightword.results import Vectors

# A few pictures fill the cores of a CPU; texts are short, and an accelerator takes more of both.
IMAGES_ON_CPU, TEXTS_ON_CPU = 8, 32
IMAGES_ON_ACCELERATOR, TEXTS_ON_ACCELERATOR = 64, 128
TOKENS_PER_GROUP = 16  # texts share a batch if their lengths fall into the same 16, as in the service

Named = tuple[int, str, Any]  # index, param, item
Outcome = tuple[int, np.ndarray[Any, np.dtype[np.float32]] | SightwordError]


class Towers:
    """The two of a model."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine, self.reader = bundle, engine, Reader(bundle)
        on_cpu = engine.provider in ON_CPU
        self._images = IMAGES_ON_CPU if on_cpu else IMAGES_ON_ACCELERATOR
        self._texts = TEXTS_ON_CPU if on_cpu else TEXTS_ON_ACCELERATOR
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="sightword-read")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def embed(self, items: Iterable[Named], truncate: bool, tokens: bool = False) -> Iterator[Outcome]:
        """The vector [dimensions] or the error of each item, by its index, as they get ready.

        A picture of a mixture model has its mixture tokens [tokens, dimensions] with `tokens`, else an error.
        """
        refuses_pictures = self._bundle.mixture is not None and not tokens

        def read(named: Named) -> tuple[int, Ids | Pixels | SightwordError]:
            index, param, item = named
            payload = self.reader.read(item, param, truncate)
            if refuses_pictures and isinstance(payload, Pixels):
                return index, UnsupportedModalityError(NO_ONE_VECTOR, param=param)
            return index, payload

        images: list[tuple[int, Any]] = []
        texts: defaultdict[int, list[tuple[int, Any]]] = defaultdict(list)
        for index, payload in prefetch(self._pool, read, items, 2 * self._images):
            if isinstance(payload, SightwordError):
                yield index, payload
            elif isinstance(payload, Pixels):
                images.append((index, payload.pixels))
                if len(images) == self._images:
                    yield from self._run(self._embed_images, images)
                    images = []
            else:
                group = (self._bundle.row_length(len(payload.ids)) - 1) // TOKENS_PER_GROUP
                texts[group].append((index, payload.ids))
                if len(texts[group]) == self._texts:
                    yield from self._run(self._embed_texts, texts.pop(group))
        for rest in (images, *texts.values()):
            if rest:
                yield from self._run(self._embed_images if rest is images else self._embed_texts, rest)

    def _run(self, embed: Callable[[list[Any]], Vectors], batch: list[tuple[int, Any]]) -> Iterator[Outcome]:
        try:
            vectors = embed([payload for _, payload in batch])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise InferenceError(f"The model failed: {error}") from error
        for (index, _), vector in zip(batch, vectors, strict=True):
            yield index, vector

    def _embed_images(self, pixels: list[Any]) -> Vectors:
        with self._engine.image_session.stacked(pixels) as batch:
            return self._engine.embed_images(batch)

    def _embed_texts(self, rows: list[Any]) -> Vectors:
        return self._engine.embed_texts(self.reader.tokenizer.pad(rows))
