"""One record an item: what the stages of a request pass along, and the result that is made of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import ApiError, without_frames
from service.inference.computations import Computation
from service.inference.fair_queue import Vector
from service.schema.items import BadItem, ImageItem, Item, TextItem, UrlItem

Matrix = NDArray[np.float32]
ALL = slice(None)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file as it was sent, and its key in the cache."""

    file: bytes
    key: str


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids, cut to the context, and the key in the cache."""

    ids: list[int]
    key: str


@dataclass(slots=True, eq=False)
class Record:
    """One item on its way to a vector. Each stage fills in one field; one that fails gets an error and goes no further.

    `payload` is set by reading, and `excess`, the size of a text that does not fit into the context; `vector` by the
    cache or by running; `computation` while it runs.
    """

    item: Item
    payload: EncodedImage | TokenizedText | None = None
    excess: str | None = None
    vector: Vector | None = None
    computation: Computation | None = None
    error: ApiError | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One side of a comparison: vectors [items, dimensions].

    An image of a mixture model has a row of zeros, and its mixture tokens [tokens, dimensions] in `tokens`, by row.
    """

    vectors: Matrix
    tokens: Mapping[int, Matrix] = field(default_factory=dict)


@dataclass(slots=True)
class EmbeddingResult:
    """The vectors of a request's items in their order; a failed item has an error and a row of zeros.

    So has an image of a mixture model: its mixture tokens [tokens, dimensions] are in `tokens`, by index.
    """

    vectors: Matrix  # [items, dimensions]
    truncated: list[bool]
    errors: dict[int, ApiError]  # by index
    usage: dict[str, int]  # texts, tokens and images that were embedded
    tokens: dict[int, Matrix] = field(default_factory=dict)

    def compared(self, rows: slice | NDArray[np.int64] = ALL) -> Compared:
        """These items as one side of a comparison."""
        if not self.tokens:
            return Compared(self.vectors[rows])
        indices = np.arange(len(self.vectors))[rows].tolist()
        tokens = {row: self.tokens[index] for row, index in enumerate(indices) if index in self.tokens}
        return Compared(self.vectors[rows], tokens)


class ItemsByKind(NamedTuple):
    """Records of texts, of files and of URLs; bad items are none of them."""

    texts: list[Record]
    files: list[Record]
    urls: list[Record]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """Those of a request."""
        found = cls([], [], [])
        by_kind = {TextItem: found.texts, ImageItem: found.files, UrlItem: found.urls}
        for record in records:
            if (several := by_kind.get(type(record.item))) is not None:
                several.append(record)
        return found


def new_records(items: Sequence[Item]) -> list[Record]:
    """A record for each item, in their order; bad ones have their error already."""
    return [Record(item, error=item.error) if isinstance(item, BadItem) else Record(item) for item in items]


def raise_first_error(records: Sequence[Record]) -> None:
    """Raise the error of the first record that has one."""
    for record in records:
        if record.error is not None:
            raise without_frames(record.error)


def take_outcome(record: Record) -> None:
    """Set the vector or the error that has come of the record's computation."""
    assert record.computation is not None, "started before"
    outcome, item = record.computation.outcome, record.item
    if isinstance(outcome, ApiError):
        assert not isinstance(item, BadItem), "those are not computed"
        record.error = outcome.at(item.param)
    else:
        record.vector = outcome  # None where another item failed and ended the wait


def collect(records: Sequence[Record], dimensions: int, has_tokens: bool = False) -> EmbeddingResult:
    """The result of records that each have a vector or an error.

    With `has_tokens`, that of an image [tokens * dimensions] is of its mixture tokens, one after the other.
    """
    vectors = np.zeros((len(records), dimensions), np.float32)
    mixture_tokens: dict[int, Matrix] = {}
    truncated = [record.excess is not None for record in records]
    errors: dict[int, ApiError] = {}
    texts = tokens = images = 0
    for index, record in enumerate(records):
        if record.error is not None:
            errors[index] = record.error
            continue
        if isinstance(record.payload, TokenizedText):
            texts += 1
            tokens += len(record.payload.ids)
        else:
            images += 1
            if has_tokens:
                assert record.vector is not None, "computed or found before"
                mixture_tokens[index] = record.vector.reshape(-1, dimensions)
                continue
        vectors[index] = record.vector
    usage = {"texts": texts, "tokens": tokens, "images": images}
    return EmbeddingResult(vectors, truncated, errors, usage, mixture_tokens)


def concatenate(parts: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """One result of several without errors."""
    usage = {name: sum(part.usage[name] for part in parts) for name in ("texts", "tokens", "images")}
    truncated = [cut for part in parts for cut in part.truncated]
    return EmbeddingResult(np.concatenate([part.vectors for part in parts]), truncated, {}, usage)
