"""Pictures that one of two models classifies rightly and the other does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.embedder import Embedder, ReadBytes, Vectors
from model.zeroshot import softmax
from training.evaluation.datasets import Split
from training.evaluation.intervals import paired_difference
from training.evaluation.results import Result
from training.report.findings import thumbnail

SHOWN = 8  # pictures each way
SAME_MISTAKE = 2  # of one class taken for another


@dataclass(frozen=True)
class Answers:
    """What a model said of the pictures of a data set; indices of `classes`, and the score from 0 to 1 of each."""

    images: Sequence[ReadBytes]
    classes: Sequence[str]
    truth: npt.NDArray[np.int64]  # [images]
    predicted: npt.NDArray[np.int64]
    scores: npt.NDArray[np.floating[Any]]


class AnswersCollector:
    """A callback of `evaluate`: `answers` by data set, of those where each picture has one class."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.answers: dict[str, Answers] = {}

    def __call__(self, result: Result, split: Split, images: Vectors, scores: Vectors | None) -> None:
        """Keep what the cosines [images, classes] say."""
        if scores is None or split.truth is not None:
            return
        best = softmax(self.embedder.bundle.logit_scale * scores).max(axis=1)
        self.answers[result.dataset] = Answers(split.images, split.classes, split.targets, scores.argmax(axis=1), best)


@dataclass(frozen=True)
class OnlyOneRight:
    """A picture that one of both models got right; `said` is the answer of the other, each with its score."""

    image: str  # a data URI
    truth: str
    score: float
    said: str
    said_score: float


@dataclass(frozen=True)
class Disagreement:
    """Counts of the pictures of a data set by who was right, and those that differ most surely.

    `interval` is the 95 % interval of the difference of both accuracies, first less second, on the same pictures.
    """

    dataset: str
    images: int
    both: int
    only_first: int
    only_second: int
    interval: tuple[float, float]
    first_right: Sequence[OnlyOneRight]
    second_right: Sequence[OnlyOneRight]

    @property
    def neither(self) -> int:
        """Pictures that both got wrong."""
        return self.images - self.both - self.only_first - self.only_second

    @property
    def difference(self) -> float:
        """Of both accuracies, first less second."""
        return (self.only_first - self.only_second) / self.images

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


def disagreements(
    first: Mapping[str, Answers], second: Mapping[str, Answers]
) -> tuple[list[Disagreement], dict[str, str]]:
    """Of each data set that both were asked about; and by name, why another one cannot be laid side by side."""
    found, refused = [], {}
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        if one is None or other is None:
            refused[name] = "only one of both was measured on it"
        elif list(one.classes) != list(other.classes) or not np.array_equal(one.truth, other.truth):
            refused[name] = "one of both knows some of its classes only, so their pictures are not the same"
        else:
            found.append(_disagreement(name, one, other))
    return found, refused


def _disagreement(name: str, first: Answers, second: Answers) -> Disagreement:
    one, other = (each.predicted == each.truth for each in (first, second))
    counts = int((one & ~other).sum()), int((other & ~one).sum())
    return Disagreement(
        name,
        len(one),
        int((one & other).sum()),
        *counts,
        paired_difference(*counts, len(one)),
        _surest(first, second, one & ~other),
        _surest(second, first, other & ~one),
    )


def _surest(right: Answers, wrong: Answers, which: npt.NDArray[np.bool_]) -> list[OnlyOneRight]:
    """Those where the two scores, of the right answer and of the wrong one, are highest together."""
    shown: list[OnlyOneRight] = []
    seen: dict[tuple[str, str], int] = {}
    places = np.flatnonzero(which)
    for at in places[np.argsort(-(right.scores + wrong.scores)[places], kind="stable")]:
        truth, said = right.classes[right.truth[at]], right.classes[wrong.predicted[at]]
        seen[truth, said] = seen.get((truth, said), 0) + 1
        if seen[truth, said] <= SAME_MISTAKE:
            picture = thumbnail(right.images[at])
            shown.append(OnlyOneRight(picture, truth, float(right.scores[at]), said, float(wrong.scores[at])))
        if len(shown) == SHOWN:
            break
    return shown
