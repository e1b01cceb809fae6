"""Diagnostics of a classifier: which classes it confuses, and whether its scores are calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHOWN = 20  # classes of a heat map that can still be read
PAIRS = 12
BINS = 15  # of a calibration, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ConfusedPair:
    """`count` of the `images` of class `truth` were classified as `predicted`."""

    truth: str
    predicted: str
    count: int
    images: int


@dataclass(frozen=True)
class ConfusionMatrix:
    """`counts` [shown, shown]: rows are true classes, columns predicted ones; `totals` all images of each row's class.

    Of many classes those with the most mistakes are shown, in their own order; `pairs` are the most frequent mistakes
    among all of them.
    """

    classes: list[str]
    counts: list[list[int]]
    totals: list[int]
    classes_total: int
    pairs: list[ConfusedPair]


def measure_confusion(truth: Indices, predicted: Indices, classes: Sequence[str]) -> ConfusionMatrix:
    """From true and predicted classes [images], as indices of `classes`."""
    size = len(classes)
    flat = np.bincount(truth * size + predicted, minlength=size * size)
    counts = flat.reshape(size, size)
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    present = np.flatnonzero(wrong.sum(axis=0) + totals)
    ranked = present[np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1))[present], kind="stable")]
    shown = np.sort(ranked[:SHOWN])
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [
        ConfusedPair(classes[row], classes[column], int(wrong[row, column]), int(totals[row]))
        for row, column in (divmod(int(place), size) for place in places)
        if wrong[row, column]
    ]
    return ConfusionMatrix(
        [classes[i] for i in shown], counts[np.ix_(shown, shown)].tolist(), totals[shown].tolist(), len(present), pairs
    )


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions whose score was in one fifteenth of 0 to 1."""

    score: float  # mean
    accuracy: float  # share that is right
    predictions: int


@dataclass(frozen=True)
class Calibration:
    """The bins that hold predictions, and the expected calibration error: the mean of |score - accuracy| over them."""

    bins: tuple[CalibrationBin, ...]
    error: float


def measure_calibration(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Calibration:
    """From the score of each prediction [predictions], 0 to 1, and whether it was right."""
    numbers = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    bins = tuple(
        CalibrationBin(float(scores[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (numbers == number for number in range(BINS))
        if inside.any()
    )
    return Calibration(bins, sum(abs(each.score - each.accuracy) * each.predictions for each in bins) / len(scores))
