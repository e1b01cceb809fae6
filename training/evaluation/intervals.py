"""How far a figure may be from what more pictures would give."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

ROUNDS = 1000
Z_95 = 1.959964
FEW = 20  # pictures below which a percentage says little


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share measured on `count` trials (Wilson 1927)."""
    spread = Z_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(only_first: int, only_second: int, count: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares, first less second, measured on the same `count` trials.

    Of each trial it is known who was right; `only_first` and `only_second` are those where one alone was (Agresti and
    Min 2005, "Simple improved confidence intervals for comparing matched proportions").
    """
    total, apart, ahead = count + 2, only_first + only_second + 1, only_first - only_second
    half = Z_95 * math.sqrt(apart - ahead**2 / total)
    return max(-1.0, (ahead - half) / total), min(1.0, (ahead + half) / total)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, rounds: int = ROUNDS
) -> tuple[float, float]:
    """95 % percentile interval of `statistic`, which takes the indices of a sample (Efron 1979); always the same one.

    Rounds in which the statistic is not defined, as where a draw holds one class only, do not count.
    """
    numbers = np.random.default_rng(0)
    values = np.array([statistic(numbers.integers(0, count, count)) for _ in range(rounds)])
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def percent(share: float, count: int) -> str:
    """`83.3 % (95 %: 55.2 to 95.3, of 12)`: a share with what it may be, and of how many it is."""
    if not count:
        return "nothing measured"
    low, high = wilson(min(1.0, max(0.0, share)), count)
    return f"{100 * share:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}, of {count:,})"


def too_few(count: int, what: str) -> str:
    """A warning where `count` is small, else an empty string."""
    if count >= FEW:
        return ""
    each = f", and one picture is {100 / count:.0f} points" if count else ""
    return f"{what}: only {count} picture{'s' * (count != 1)}, of which no percentage says much{each}"
