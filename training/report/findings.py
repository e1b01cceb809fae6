"""What the pictures of the tests show beside the figures: found while they are measured, so that it costs little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model.embedder import Embedder, Vectors
from model.zeroshot import softmax
from training.evaluation.datasets import Split
from training.evaluation.results import Result
from training.report.calibration import Calibration, calibration
from training.report.confusion import Confusion, confusion
from training.report.thumbnails import thumbnail

QUERIES = 5  # texts of a data set whose best pictures are shown
MATCHES = 8
MISTAKES = 16
ALIKE = 2  # mistakes of one class for another that are shown


@dataclass(frozen=True)
class Match:
    """A picture that was found by a text; `truth` is its class or caption."""

    picture: str  # a data URI
    truth: str
    right: bool
    cosine: float


@dataclass(frozen=True)
class Query:
    """A text and the pictures that it is most similar to, best first."""

    text: str
    matches: list[Match]


@dataclass(frozen=True)
class Mistake:
    """A picture that was called something else, with that score from 0 to 1."""

    picture: str
    truth: str
    said: str
    score: float


@dataclass(frozen=True)
class Findings:
    """Of one data set."""

    result: Result
    queries: list[Query] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    confusion: Confusion | None = None
    calibration: Calibration | None = None


class Finder:
    """Looks at each data set as it is measured; `found` is what it saw."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.found: list[Findings] = []

    def __call__(self, result: Result, split: Split, pictures: Vectors, scores: Vectors | None) -> None:
        """For training.evaluation.evaluator.evaluate."""
        if split.captions:
            self.found.append(Findings(result, self._by_caption(split, pictures)))
        elif split.truth is None and scores is not None:
            self.found.append(self._of_classes(result, split, scores))
        else:
            self.found.append(Findings(result))

    def _of_classes(self, result: Result, split: Split, scores: Vectors) -> Findings:
        said = scores.argmax(axis=1)
        right = said == split.targets
        # What the service answers.
        best = softmax(self.embedder.bundle.logit_scale * scores).max(axis=1)
        return Findings(
            result,
            [self._by_class(split, number, scores) for number in _spread(result, split.classes)],
            _mistakes(split, said, best),
            confusion(split.targets, said, split.classes),
            calibration(best, right),
        )

    @staticmethod
    def _by_class(split: Split, number: int, scores: Vectors) -> Query:
        matches = [
            Match(
                thumbnail(split.pictures[at]),
                split.classes[split.targets[at]],
                bool(split.targets[at] == number),
                float(scores[at, number]),
            )
            for at in np.argsort(-scores[:, number], kind="stable")[:MATCHES]
        ]
        return Query(split.classes[number], matches)

    def _by_caption(self, split: Split, pictures: Vectors) -> list[Query]:
        rows = np.linspace(0, len(split) - 1, min(QUERIES, len(split))).astype(int)
        texts = [split.captions[row][0] for row in rows]
        cosines = self.embedder.embed_texts(texts) @ pictures.T
        return [
            Query(
                text,
                [
                    Match(
                        thumbnail(split.pictures[at]), split.captions[at][0], text in split.captions[at], float(of[at])
                    )
                    for at in np.argsort(-of, kind="stable")[:MATCHES]
                ],
            )
            for text, of in zip(texts, cosines, strict=True)
        ]


def _spread(result: Result, classes: Sequence[str]) -> list[int]:
    """Classes to show, evenly from the best known to the least."""
    ranked = sorted(result.per_class, key=lambda name: -result.per_class[name])
    places = np.linspace(0, len(ranked) - 1, min(QUERIES, len(ranked))).astype(int)
    return [classes.index(ranked[place]) for place in places]


def _mistakes(split: Split, said: np.ndarray, best: Vectors) -> list[Mistake]:
    """Those that the model was surest of."""
    shown: list[Mistake] = []
    seen = Counter[tuple[str, str]]()
    wrong = np.flatnonzero(said != split.targets)
    for at in wrong[np.argsort(-best[wrong], kind="stable")]:
        truth, called = split.classes[split.targets[at]], split.classes[said[at]]
        if seen[truth, called] < ALIKE:
            seen[truth, called] += 1
            shown.append(Mistake(thumbnail(split.pictures[at]), truth, called, float(best[at])))
        if len(shown) == MISTAKES:
            break
    return shown
