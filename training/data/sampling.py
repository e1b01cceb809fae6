"""Which items a step draws: a pure function of seed and step, with or without replacement."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from training.config import Source

Numbers = npt.NDArray[np.int64]
PASS = 0x70617373  # sets the random numbers of a pass apart from those of a step
KEPT_PASSES = 8  # orders in memory; a batch needs one or two of each source


@dataclass(frozen=True)
class Group:
    """Items that are sampled together, and the cumulative probability of each; None to draw each once in a pass."""

    weight: float
    items: Numbers
    cumulative: npt.NDArray[np.float64] | None


def group_of(source: Source, items: Numbers, labels: npt.NDArray[np.int32]) -> Group:
    """`labels` [items] by number, -1 for none: such items are all different, they count as classes of one."""
    if not source.resample:
        return Group(source.weight, items, None)
    frequency = np.maximum(np.bincount(labels[labels >= 0], minlength=1), 1)
    weight = np.where(labels >= 0, frequency[labels].astype(np.float64) ** (source.class_power - 1), 1.0)
    cumulative = np.cumsum(weight / weight.sum())
    cumulative[-1] = 1.0
    return Group(source.weight, items, cumulative)


class Sampler:
    """Draws items from groups, each as often as its weight says."""

    def __init__(self, groups: Sequence[Group], seed: int) -> None:
        self.groups, self.seed = groups, seed
        self._passes: OrderedDict[tuple[int, int], Numbers] = OrderedDict()

    def draw(self, step: int, size: int, numbers: np.random.Generator) -> Numbers:
        """The items [size] of `step`; `numbers` are those of the step."""
        firsts, which = self._shares(step, size, numbers)
        at = numbers.random(size)
        drawn = np.empty(size, np.int64)
        for number, group in enumerate(self.groups):
            mine = which == number
            if group.cumulative is None:
                drawn[mine] = self._in_turn(number, firsts[number], int(mine.sum()))
            else:
                drawn[mine] = group.items[np.searchsorted(group.cumulative, at[mine], side="right")]
        return drawn

    def _shares(self, step: int, size: int, numbers: np.random.Generator) -> tuple[list[int], Numbers]:
        """How many items each group gave before this step, and from which group each of this step's is [size]."""
        if all(group.cumulative is not None for group in self.groups):
            weights = np.array([group.weight for group in self.groups])
            return [], numbers.choice(len(self.groups), size=size, p=weights / weights.sum())
        # By chance it could not be told how many a group gave before; so the shares are kept to the item.
        before, after = self._given(step * size), self._given((step + 1) * size)
        counts = [late - early for early, late in zip(before, after, strict=True)]
        return before, numbers.permutation(np.repeat(np.arange(len(self.groups)), counts))

    def _given(self, total: int) -> list[int]:
        """How many of the first `total` items are of each group: never fewer for a larger total."""
        rest, weight = total, sum(Fraction(group.weight) for group in self.groups)
        given = []
        for group in self.groups:
            share = int(rest * Fraction(group.weight) / weight)
            given.append(share)
            rest, weight = rest - share, weight - Fraction(group.weight)
            if not weight:
                break
        return given

    def _in_turn(self, number: int, first: int, count: int) -> Numbers:
        items = self.groups[number].items
        places = np.arange(first, first + count)
        drawn = np.empty(count, np.int64)
        for turn in np.unique(places // len(items)):
            mine = places // len(items) == turn
            drawn[mine] = items[self._order(number, int(turn), len(items))[places[mine] % len(items)]]
        return drawn

    def _order(self, number: int, turn: int, count: int) -> Numbers:
        if (number, turn) not in self._passes:
            order = np.random.default_rng([self.seed, turn, number, PASS]).permutation(count)
            self._passes[number, turn] = order
            if len(self._passes) > KEPT_PASSES:
                self._passes.popitem(last=False)
        return self._passes[number, turn]
