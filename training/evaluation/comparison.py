"""What training further changed: the figures of the start and of what became of it, on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.results import Result

HELD_OUT = "held-out training pictures"


@dataclass(frozen=True)
class Comparison:
    """One figure, before and after, as shares in [0, 1]."""

    dataset: str
    metric: str
    pictures: int
    before: float
    after: float

    @property
    def points(self) -> float:
        """By how many percentage points it rose."""
        return 100 * (self.after - self.before)

    @property
    def is_worse(self) -> bool:
        """Whether it fell."""
        return self.after < self.before

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {100 * self.before:.1f} % before, {100 * self.after:.1f} % after, "
            f"{self.points:+.1f} points"
        )


def compare(before: Sequence[Result], after: Sequence[Result]) -> list[Comparison]:
    """The headline figures of what was measured both times, in the order of `after`."""
    earlier = {(result.dataset, result.task): result for result in before}
    return [
        Comparison(result.dataset, result.headline, result.pictures, earlier[key].value, result.value)
        for result in after
        if (key := (result.dataset, result.task)) in earlier
    ]
