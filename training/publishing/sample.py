"""The labelled pictures by which a published model is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.datasets import DataError, DatasetSpec
from training.evaluation.embedding import Picture

PICTURES = 400


@dataclass(frozen=True)
class Sample:
    """`labels` [pictures] are among `classes`; `templates` are what is made of them."""

    name: str
    pictures: Sequence[Picture]
    labels: Sequence[str]
    classes: Sequence[str]
    templates: Sequence[str]


def draw(specs: Sequence[DatasetSpec], templates: Sequence[str]) -> Sample:
    """At most PICTURES, evenly out of the first data set that has one class for each picture. Raises DataError."""
    for spec in specs:
        for suffix, split in spec.read("test").items():
            if split.classes and split.truth is None:
                rows = np.unique(np.linspace(0, len(split) - 1, min(PICTURES, len(split))).astype(int))
                labels = [split.classes[split.targets[row]] for row in rows]
                pictures = [split.pictures[row] for row in rows]
                return Sample(f"{spec.name}{suffix}", pictures, labels, split.classes, templates)
    raise DataError("there are no labelled pictures to check the model with: name some with --check 'SHARDS'")
