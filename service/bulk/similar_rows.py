"""Which vectors are similar to ones before them, by faiss: exactly, or approximately with the recall measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from model.requirements import needs
from service.bulk.part_vectors import Block, Parts, Vectors, read_blocks

DIGITS: Final = 6  # of a cosine: what float32 holds of it, whatever the order of the sum was
_TOLERANCE = 1e-6  # the cosine of two equal vectors may come out as 0.9999999
_SHARD_ROWS, _QUERIES = 16_384, (256, 2_048)
_FAST = 131_072  # queries x numbers from which on faiss multiplies by blocks: four to nine times as fast
_RESULT_BYTES, _PAIR_BYTES = 200_000_000, 12  # of one search, where everything is similar to everything
_SAMPLE, _WANTED_RECALL = 1_000, 0.99
_TRAINED_PER_CELL, _MOST_CELLS = 64, 8_192
_PROBES = (8, 16, 32, 64, 128)  # cells looked into, in turn, until the recall is as wanted


@dataclass(frozen=True, slots=True)
class Pairs:
    """`cosine[i]` of row `later[i]` with row `earlier[i]`, which stands before it."""

    later: NDArray[np.int64]
    earlier: NDArray[np.int64]
    cosine: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.later)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """Those of a mask, or of numbers in their order."""
        return Pairs(self.later[chosen], self.earlier[chosen], self.cosine[chosen])

    def highest(self, count: int) -> Pairs:
        """Of each later row the `count` with the highest cosine, of equal ones the first; in that order."""
        ordered = self.where(np.lexsort((self.earlier, -self.cosine, self.later)))
        starts = np.searchsorted(ordered.later, ordered.later, side="left")
        return ordered.where(np.arange(len(ordered)) - starts < count)

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            np.concatenate([self.later, other.later]),
            np.concatenate([self.earlier, other.earlier]),
            np.concatenate([self.cosine, other.cosine]),
        )


NO_PAIRS = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class SimilarRows(Protocol):
    """An index of all rows; `queries` is how many may be asked for at once so that their answers stay bounded."""

    queries: int
    recall: float | None

    def before(self, first: int, vectors: Vectors) -> Iterator[Pairs]:
        """Rows before each of those whose numbers begin with `first`, in bounded portions."""


class ExactIndex:
    """Every vector against every one before it, in flat shards: N² / 2 products of vectors."""

    recall: float | None = 1.0

    def __init__(self, parts: Parts, cosine: float) -> None:
        self._cosine = cosine
        self.queries = _at_once(parts.width)
        most = min(_SHARD_ROWS, _RESULT_BYTES // (_PAIR_BYTES * self.queries))
        self._shards: list[Any] = []
        for block in read_blocks(parts):
            if not self._shards or self._shards[-1].ntotal + len(block.vectors) > most:
                self._shards.append(faiss().IndexFlatIP(parts.width))
            self._shards[-1].add(block.vectors)

    def before(self, first: int, vectors: Vectors) -> Iterator[Pairs]:
        """As the protocol says."""
        offset = 0
        for shard in self._shards:
            if offset < first + len(vectors):
                yield _search(shard, vectors, self._cosine, first, offset)
            offset += shard.ntotal


class ApproximateIndex:
    """Rows in the cells of a k-means (IVF), of which the nearest few are looked into.

    `recall` is which share of the pairs it finds, measured on rows spread over all, against the exact search; None
    where those have no pair.
    """

    queries: int
    recall: float | None

    def __init__(self, parts: Parts, cosine: float) -> None:
        self._cosine = cosine
        self.queries = max(1, min(_QUERIES[0], _RESULT_BYTES // (_PAIR_BYTES * parts.rows)))
        cells = min(_MOST_CELLS, max(1, round(2 * math.sqrt(parts.rows))))
        library = faiss()
        coarse = library.IndexFlatIP(parts.width)
        self._index = library.IndexIVFFlat(coarse, parts.width, cells, library.METRIC_INNER_PRODUCT)
        self._index.train(_spread(parts, cells * _TRAINED_PER_CELL))
        for block in read_blocks(parts):
            self._index.add(block.vectors)
        self.recall = self._probe_until_good(parts)

    def before(self, first: int, vectors: Vectors) -> Iterator[Pairs]:
        """As the protocol says."""
        yield _search(self._index, vectors, self._cosine, first, 0)

    def _probe_until_good(self, parts: Parts) -> float | None:
        """Look into more cells until the recall is as wanted. What is found is part of the exact result: counts do."""
        sample = _spread(parts, _SAMPLE)
        wanted = sum(
            _count_pairs(_flat(block), sample, self._cosine, _at_once(parts.width)) for block in read_blocks(parts)
        ) - len(sample)
        recall = None
        for self._index.nprobe in _PROBES:
            if wanted > 0:
                found = _count_pairs(self._index, sample, self._cosine, self.queries) - len(sample)
                recall = min(1.0, max(0.0, found / wanted))
            if recall is not None and recall >= _WANTED_RECALL:
                break
        return recall


def faiss() -> Any:
    """The library; ends with how to install it where it is missing."""
    with needs("near-duplicates"):
        import faiss
    return faiss


def _search(index: Any, vectors: Vectors, cosine: float, first: int, offset: int) -> Pairs:
    """Of rows `first` and so on with those of `index`, which begins with row `offset`."""
    found = _range_search(index, vectors, cosine)
    pairs = Pairs(found.later + first, found.earlier + offset, found.cosine)
    return pairs.where(pairs.earlier < pairs.later)


def _range_search(index: Any, vectors: Vectors, cosine: float) -> Pairs:
    """By the numbers that vectors have among those asked for and in `index`, each with itself, too."""
    limits, cosines, rows = index.range_search(vectors, cosine - _TOLERANCE)
    asked = np.repeat(np.arange(len(vectors)), np.diff(limits.astype(np.int64)))
    pairs = Pairs(asked, rows, np.minimum(np.round(cosines.astype(np.float64), DIGITS), 1.0))
    return pairs.where(pairs.cosine >= cosine)


def _at_once(width: int) -> int:
    """How many vectors to ask an exact index for."""
    least, most = _QUERIES
    return min(most, max(least, -(-_FAST // width)))


def _flat(block: Block) -> Any:
    index = faiss().IndexFlatIP(block.vectors.shape[1])
    index.add(block.vectors)
    return index


def _count_pairs(index: Any, vectors: Vectors, cosine: float, at_once: int) -> int:
    """With themselves."""
    starts = range(0, len(vectors), at_once)
    return sum(len(_range_search(index, vectors[start : start + at_once], cosine)) for start in starts)


def _spread(parts: Parts, count: int) -> Vectors:
    """About `count` rows at equal distances."""
    step = max(1, parts.rows // count)
    return np.concatenate([block.vectors[-block.first % step :: step] for block in read_blocks(parts)])
