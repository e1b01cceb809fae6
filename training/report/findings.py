"""Findings beside the metrics, collected while a model is evaluated: best matches, worst mistakes, diagnostics."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from model.embedder import Embedder, ReadBytes, Vectors
from model.images.geometry import apply_orientation
from model.images.preprocessing import decode, eight_bit, orientation
from model.zeroshot import softmax
from training.evaluation.datasets import Split
from training.evaluation.results import Result
from training.report.diagnostics import Calibration, ConfusionMatrix, measure_calibration, measure_confusion

QUERIES = 5  # texts of a data set whose best images are shown
MATCHES = 8
MISTAKES = 16
SAME_CONFUSION = 2  # mistakes of one class for another that are shown
THUMBNAIL_PIXELS, THUMBNAIL_QUALITY = 112, 70


@dataclass(frozen=True)
class Match:
    """An image that was found by a text; `truth` is its class or caption."""

    image: str  # a data URI
    truth: str
    right: bool
    cosine: float


@dataclass(frozen=True)
class Query:
    """A text and the images most similar to it, best first."""

    text: str
    matches: list[Match]


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly, with the score from 0 to 1 of that."""

    image: str
    truth: str
    predicted: str
    score: float


@dataclass(frozen=True)
class Findings:
    """What was found on one data set."""

    result: Result
    queries: list[Query] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    confusion: ConfusionMatrix | None = None
    calibration: Calibration | None = None


class FindingsCollector:
    """A callback of `evaluate`; `findings` has one entry for each result."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.findings: list[Findings] = []

    def __call__(self, result: Result, split: Split, images: Vectors, scores: Vectors | None) -> None:
        """Collect what a result came from: embeddings [images, dim] and cosines [images, classes]."""
        if split.captions:
            self.findings.append(Findings(result, self._caption_queries(split, images)))
        elif split.truth is None and scores is not None:
            self.findings.append(self._classification_findings(result, split, scores))
        else:
            self.findings.append(Findings(result))

    def _classification_findings(self, result: Result, split: Split, scores: Vectors) -> Findings:
        predicted = scores.argmax(axis=1)
        right = predicted == split.targets
        # What the service answers.
        best = softmax(self.embedder.bundle.logit_scale * scores).max(axis=1)
        return Findings(
            result,
            [self._class_query(split, number, scores) for number in _spread_classes(result, split.classes)],
            _mistakes(split, predicted, best),
            measure_confusion(split.targets, predicted, split.classes),
            measure_calibration(best, right),
        )

    @staticmethod
    def _class_query(split: Split, number: int, scores: Vectors) -> Query:
        matches = [
            Match(
                thumbnail(split.images[at]),
                split.classes[split.targets[at]],
                bool(split.targets[at] == number),
                float(scores[at, number]),
            )
            for at in np.argsort(-scores[:, number], kind="stable")[:MATCHES]
        ]
        return Query(split.classes[number], matches)

    def _caption_queries(self, split: Split, images: Vectors) -> list[Query]:
        rows = np.linspace(0, len(split) - 1, min(QUERIES, len(split))).astype(int)
        texts = [split.captions[row][0] for row in rows]
        cosines = self.embedder.cosines(images, self.embedder.embed_texts(texts)).T
        return [
            Query(
                text,
                [
                    Match(thumbnail(split.images[at]), split.captions[at][0], text in split.captions[at], float(of[at]))
                    for at in np.argsort(-of, kind="stable")[:MATCHES]
                ],
            )
            for text, of in zip(texts, cosines, strict=True)
        ]


def _spread_classes(result: Result, classes: Sequence[str]) -> list[int]:
    """Classes to show, evenly from the best known to the least."""
    ranked = sorted(result.per_class, key=lambda name: -result.per_class[name])
    places = np.linspace(0, len(ranked) - 1, min(QUERIES, len(ranked))).astype(int)
    return [classes.index(ranked[place]) for place in places]


def _mistakes(split: Split, predicted: np.ndarray, best: Vectors) -> list[Mistake]:
    """The wrong predictions with the highest scores."""
    shown: list[Mistake] = []
    seen = Counter[tuple[str, str]]()
    wrong = np.flatnonzero(predicted != split.targets)
    for at in wrong[np.argsort(-best[wrong], kind="stable")]:
        truth, label = split.classes[split.targets[at]], split.classes[predicted[at]]
        if seen[truth, label] < SAME_CONFUSION:
            seen[truth, label] += 1
            shown.append(Mistake(thumbnail(split.images[at]), truth, label, float(best[at])))
        if len(shown) == MISTAKES:
            break
    return shown


def thumbnail(read: ReadBytes) -> str:
    """A data URI of the image, at most THUMBNAIL_PIXELS wide and high, about 3 kB; upright, transparency on white."""
    image = decode(read())
    image = eight_bit(apply_orientation(image, None, orientation(image))[0]).convert("RGBA")
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    file = io.BytesIO()
    white.convert("RGB").save(file, "WEBP", quality=THUMBNAIL_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
