"""Which templates help: forward selection, as CLIP's authors chose seven of their eighty for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.zeroshot import class_vectors
from training.evaluation.embedding import Vectors
from training.evaluation.metrics import ranks
from training.evaluation.zeroshot import Targets


def select_templates(
    pictures: Vectors, targets: Targets, vectors: Vectors, templates: Sequence[str], most: int | None = None
) -> tuple[list[str], list[float]]:
    """Add, one after another, the template that helps most; stop when none does. The templates, and top-1 after each.

    `vectors` [templates, classes, dim] are of unit length. Choose on pictures that are not the test.
    """
    chosen: list[int] = []
    accuracies: list[float] = []
    while len(chosen) < (most or len(templates)):
        left = [number for number in range(len(templates)) if number not in chosen]
        scores = [_accuracy(pictures, targets, vectors[[*chosen, number]]) for number in left]
        best = int(np.argmax(scores))
        if accuracies and scores[best] <= accuracies[-1]:
            break
        chosen.append(left[best])
        accuracies.append(scores[best])
    return [templates[number] for number in chosen], accuracies


def _accuracy(pictures: Vectors, targets: Targets, vectors: Vectors) -> float:
    words = class_vectors(vectors.transpose(1, 0, 2))
    return float((ranks(pictures @ words.T, targets) == 0).mean())
