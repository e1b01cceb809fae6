"""What has come of a request's items."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import ApiError
from service.inference.fair_queue import Vector
from service.inference.reading import EncodedImage, TokenizedText
from service.schema.items import BadItem, Item


@dataclass(slots=True)
class EmbeddingResult:
    """The vectors of a request's items in their order; a failed item has an error and a row of zeros."""

    vectors: NDArray[np.float32]  # [items, dimensions]
    truncated: list[bool]
    errors: dict[int, ApiError]
    usage: dict[str, int]

    def count(self, good: Mapping[int, EncodedImage | TokenizedText]) -> None:
        """Count what was answered of what could be read."""
        for index, each in good.items():
            if index in self.errors:
                continue
            if isinstance(each, TokenizedText):
                self.usage["texts"] += 1
                self.usage["tokens"] += len(each.ids)
            else:
                self.usage["images"] += 1

    def collect(self, work: Mapping[int, asyncio.Future[Vector]], items: Sequence[Item], keep_errors: bool) -> None:
        """Take in what has come of the work; without `keep_errors`, raise the failure of the first item that has one.

        Raises ApiError.
        """
        for index in sorted(work):
            future = work[index]
            if not future.done():  # another item failed and ended the wait
                continue
            error = future.exception()
            if error is None:
                self.vectors[index] = future.result()
                continue
            item = items[index]
            if not isinstance(error, ApiError) or isinstance(item, BadItem):
                raise RuntimeError("a batcher gives vectors and ApiErrors, for items that are good")
            if not keep_errors:
                raise error.at(item.param)
            self.errors[index] = error.at(item.param)
