"""Ranks and precisions from scores and targets. Ties count against the model: one score for all is no knowledge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
CHUNK_ROWS = 1024  # queries scored at a time: no [pictures, captions] of a large set is ever in memory


def ranks(scores: Floats, targets: Indices) -> Indices:
    """How many other columns of [count, classes] score as high as the target's, or higher: 0 is right at once."""
    own = scores[np.arange(len(targets)), targets]
    return np.asarray((scores >= own[:, None]).sum(axis=1) - 1, np.int64)


def mean_per_class(hits: Flags, targets: Indices) -> float:
    """The mean over classes of the share of hits in each; classes without a picture do not count."""
    counts = np.bincount(targets)
    share = np.bincount(targets, weights=hits)[counts > 0] / counts[counts > 0]
    return float(share.mean())


def eleven_point_precision(scores: Floats, truth: Flags) -> float:
    """Average precision of one class as Pascal VOC 2007 defines it.

    The mean, over recalls 0, 0.1 ... 1, of the best precision at that recall or a higher one (Everingham et al., 2010,
    section 4.2). NaN where nothing is true.
    """
    if not truth.any():
        return float("nan")
    # Among equals, what is not true comes first.
    order = np.lexsort((truth, -scores))
    right = np.cumsum(truth[order])
    precision = right / np.arange(1, len(truth) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # The first place that reaches each recall; in integers, since 0.3 is no binary number.
    places = np.searchsorted(right * 10, np.arange(11) * right[-1])
    return float(best[places].mean())


def retrieval_ranks(
    scores_of: Callable[[slice], Floats], own: Sequence[Sequence[int]], chunk_rows: int = CHUNK_ROWS
) -> Indices:
    """Of each query, how many foreign keys come before the best of its own; `own[i]` are the numbers of its keys.

    `scores_of` gives the scores of some of the queries with all keys [rows, keys]. A query counts as answered at k by
    any of its keys (rank < k), as in the CLIP paper, not by the share of them.
    """
    found = np.empty(len(own), np.int64)
    for start in range(0, len(own), chunk_rows):
        for row, scores in enumerate(scores_of(slice(start, min(start + chunk_rows, len(own)))), start=start):
            mine = scores[list(own[row])]
            before = mine.max()
            found[row] = (scores >= before).sum() - (mine >= before).sum()
    return found
