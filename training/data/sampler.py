"""Which items a step draws: a pure function of seed and step, with or without replacement."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from training.config import Source

Indices = npt.NDArray[np.int64]
EPOCH_STREAM = 0x70617373  # sets the random numbers of an epoch apart from those of a step
CACHED_EPOCHS = 8  # permutations in memory; a batch needs one or two of each group


@dataclass(frozen=True)
class SamplingGroup:
    """Items that are sampled together, and the cumulative probability of each; None to draw each once an epoch."""

    weight: float
    items: Indices
    cumulative: npt.NDArray[np.float64] | None


def sampling_group(source: Source, items: Indices, labels: npt.NDArray[np.int32]) -> SamplingGroup:
    """`labels` [items] by number, -1 for none: such items are all different, they count as classes of one."""
    if not source.resample:
        return SamplingGroup(source.weight, items, None)
    frequency = np.maximum(np.bincount(labels[labels >= 0], minlength=1), 1)
    weight = np.where(labels >= 0, frequency[labels].astype(np.float64) ** (source.class_power - 1), 1.0)
    cumulative = np.cumsum(weight / weight.sum())
    cumulative[-1] = 1.0
    return SamplingGroup(source.weight, items, cumulative)


class BatchSampler:
    """Draws the items of a step from groups, each as often as its weight says."""

    def __init__(self, groups: Sequence[SamplingGroup], seed: int) -> None:
        self.groups, self.seed = groups, seed
        self._permutations: OrderedDict[tuple[int, int], Indices] = OrderedDict()

    def sample(self, step: int, size: int, rng: np.random.Generator) -> Indices:
        """The items [size] of `step`; `rng` is that of the step."""
        drawn_before, group_of = self._allocate(step, size, rng)
        uniform = rng.random(size)
        drawn = np.empty(size, np.int64)
        for number, group in enumerate(self.groups):
            mine = group_of == number
            if group.cumulative is None:
                drawn[mine] = self._without_replacement(number, drawn_before[number], int(mine.sum()))
            else:
                drawn[mine] = group.items[np.searchsorted(group.cumulative, uniform[mine], side="right")]
        return drawn

    def _allocate(self, step: int, size: int, rng: np.random.Generator) -> tuple[list[int], Indices]:
        """How many items each group gave before this step, and from which group each of this step's is [size]."""
        if all(group.cumulative is not None for group in self.groups):
            weights = np.array([group.weight for group in self.groups])
            return [], rng.choice(len(self.groups), size=size, p=weights / weights.sum())
        # By chance it would be unknown how many a group gave before; so the counts follow from the weights exactly.
        before, after = self._counts(step * size), self._counts((step + 1) * size)
        counts = [late - early for early, late in zip(before, after, strict=True)]
        return before, rng.permutation(np.repeat(np.arange(len(self.groups)), counts))

    def _counts(self, total: int) -> list[int]:
        """How many of the first `total` items are of each group: never fewer for a larger total."""
        rest, weight = total, sum(Fraction(group.weight) for group in self.groups)
        counts = []
        for group in self.groups:
            count = int(rest * Fraction(group.weight) / weight)
            counts.append(count)
            rest, weight = rest - count, weight - Fraction(group.weight)
            if not weight:
                break
        return counts

    def _without_replacement(self, number: int, first: int, count: int) -> Indices:
        """Items `first` to `first + count` of the sequence of a group's shuffled epochs."""
        items = self.groups[number].items
        positions = np.arange(first, first + count)
        drawn = np.empty(count, np.int64)
        for epoch in np.unique(positions // len(items)):
            mine = positions // len(items) == epoch
            drawn[mine] = items[self._permutation(number, int(epoch), len(items))[positions[mine] % len(items)]]
        return drawn

    def _permutation(self, number: int, epoch: int, count: int) -> Indices:
        if (number, epoch) not in self._permutations:
            order = np.random.default_rng([self.seed, epoch, number, EPOCH_STREAM]).permutation(count)
            self._permutations[number, epoch] = order
            if len(self._permutations) > CACHED_EPOCHS:
                self._permutations.popitem(last=False)
        return self._permutations[number, epoch]
