"""Whether a score means what it says: of the answers given with a score of 0.8, are 80 % right?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15  # as Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True)
class Bin:
    """The answers whose score was in one fifteenth of 0 to 1."""

    score: float  # their mean
    right: float  # share of them
    answers: int


@dataclass(frozen=True)
class Calibration:
    """The bins that hold answers, and the expected calibration error: mean distance of score and share, by answers."""

    bins: tuple[Bin, ...]
    error: float


def calibration(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Calibration:
    """From the best score [answers] of each answer, 0 to 1, and whether it was right."""
    numbers = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    bins = tuple(
        Bin(float(scores[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (numbers == number for number in range(BINS))
        if inside.any()
    )
    return Calibration(bins, sum(abs(each.score - each.right) * each.answers for each in bins) / len(scores))
