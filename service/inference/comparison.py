"""Cosines between what was embedded: the one place in which the service compares vectors.

A picture of a mixture model (Llip) has several, which are mixed for each text that it is compared with. So it is
compared with texts alone, and one vector of it there is none: what asks for such a thing is refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.config import MixtureConfig
from model.runtime.engine import Engine
from service.errors import ApiError
from service.inference.records import Compared
from service.request_context import Timing
from service.schema.items import BadItem, ImageItem, Item, UrlItem
from service.thread_pool import INLINE_COSINES, ThreadPool

Matrix = NDArray[np.float32]
WEIGHTS_AT_ONCE = 2**22  # of the attention that mixes: 16 MB, a few times over, in some 50 ms
IMAGES_AT_ONCE = 32
TOKENS_OF_EMBED = 'POST /embed with "output": "tokens"'


class Comparison:
    """Compares what one model has embedded."""

    def __init__(self, bundle: Bundle, engine: Engine, pool: ThreadPool) -> None:
        self._mixture, self._engine, self._pool = bundle.mixture, engine, pool
        self._turn = asyncio.Lock()  # of one request's part: the other threads are left to those who decode

    def check(self, first: Sequence[Item], second: Sequence[Item]) -> None:
        """Raise `unsupported_modality` where images would be compared with images of a mixture model."""
        if self._mixture is None or not any(map(_is_image, first)):
            return
        for item in second:
            if isinstance(item, ImageItem | UrlItem):
                raise _no_cosine(item.param, self._mixture)

    def one_vector_each(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items, with a bad one in place of each image of a mixture model, of which there is no one vector."""
        if self._mixture is None:
            return items
        return [_refused(item, self._mixture) for item in items]

    async def cosines(self, first: Compared, second: Compared, timing: Timing) -> Matrix:
        """How alike each of the one and of the other are [first, second].

        Those of images of a mixture model are computed part by part in threads: when the request is cancelled, no other
        part begins, and none holds much memory.
        """
        if first.tokens or second.tokens:
            with timing.stage("inference"):
                return await self._cosines(first, second)
        return await self._cosines(first, second)

    async def _cosines(self, first: Compared, second: Compared) -> Matrix:
        pairs = len(first.vectors) * len(second.vectors)
        result = await self._pool.run_inline_or_in_thread(
            pairs, INLINE_COSINES, _product, first.vectors, second.vectors
        )
        if first.tokens:
            result[list(first.tokens)] = await self._mixed(list(first.tokens.values()), second.vectors)
        if second.tokens:
            result[:, list(second.tokens)] = (await self._mixed(list(second.tokens.values()), first.vectors)).T
        return result

    async def _mixed(self, images: Sequence[Matrix], texts: Matrix) -> Matrix:
        """Images [tokens, dimensions] and texts [texts, dimensions] -> cosines [images, texts]."""
        assert self._mixture is not None, "only a mixture model has several vectors of an image"
        result = np.empty((len(images), len(texts)), np.float32)
        pairs = max(1, WEIGHTS_AT_ONCE // (self._mixture.heads * self._mixture.tokens))
        # What is computed of an image alone is so once for each part: many texts are better than many images.
        columns = max(1, min(len(texts), pairs))
        rows = min(IMAGES_AT_ONCE, max(1, pairs // columns))
        for row in range(0, len(images), rows):
            some = np.stack(images[row : row + rows])
            for column in range(0, len(texts), columns):
                async with self._turn:
                    part = await self._pool.run_in_thread(self._engine.cosines, some, texts[column : column + columns])
                result[row : row + rows, column : column + columns] = part
        return result


def _product(first: Matrix, second: Matrix) -> Matrix:
    product: Matrix = first @ second.T
    return product


def _is_image(item: Item) -> bool:
    return isinstance(item, ImageItem | UrlItem)


def _refused(item: Item, mixture: MixtureConfig) -> Item:
    return BadItem(_no_one_vector(item.param, mixture)) if isinstance(item, ImageItem | UrlItem) else item


def _no_one_vector(param: str, mixture: MixtureConfig) -> ApiError:
    message = (
        f"This model makes {mixture.tokens} vectors of a picture and mixes them for each text, so that there is no "
        f"one vector of it: ask {TOKENS_OF_EMBED} for all of them, or compare pictures with texts in /similarity, "
        "/classify or /v1/rerank."
    )
    return ApiError("unsupported_modality", message, param)


def _no_cosine(param: str, mixture: MixtureConfig) -> ApiError:
    message = (
        f"This model mixes the {mixture.tokens} vectors of a picture for the text that it is compared with, so that "
        f"two pictures have no cosine: send pictures on one side and texts on the other, or ask {TOKENS_OF_EMBED} for "
        "the vectors themselves."
    )
    return ApiError("unsupported_modality", message, param)
