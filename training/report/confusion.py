"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 20  # classes of a heat map that can still be read
PAIRS = 12

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """`count` of the `pictures` of `truth` were called `said`."""

    truth: str
    said: str
    count: int
    pictures: int


@dataclass(frozen=True)
class Confusion:
    """`counts` [shown, shown]: rows are true classes, columns what was said; `totals` all pictures of each row's class.

    Of many classes those with the most mistakes are shown, in their own order; `pairs` are the most frequent mistakes
    among all of them.
    """

    classes: list[str]
    counts: list[list[int]]
    totals: list[int]
    of_classes: int
    pairs: list[Pair]


def confusion(truth: Indices, said: Indices, classes: Sequence[str]) -> Confusion:
    """Count mistakes; `truth` and `said` [pictures] are indices of `classes`."""
    size = len(classes)
    flat = np.bincount(truth * size + said, minlength=size * size)
    counts = flat.reshape(size, size)
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    there = np.flatnonzero(wrong.sum(axis=0) + totals)
    ranked = there[np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1))[there], kind="stable")]
    shown = np.sort(ranked[:SHOWN])
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [
        Pair(classes[row], classes[column], int(wrong[row, column]), int(totals[row]))
        for row, column in (divmod(int(place), size) for place in places)
        if wrong[row, column]
    ]
    return Confusion(
        [classes[i] for i in shown], counts[np.ix_(shown, shown)].tolist(), totals[shown].tolist(), len(there), pairs
    )
