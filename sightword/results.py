"""What the calls give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightword.errors import ModelNotFoundError, SightwordError

Vectors: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors [items, dimensions] with `on_error="item"`: rows of bad items are NaN, and `errors` has why, by index.

    With `output="tokens"` they are [items, tokens, dimensions].
    """

    vectors: Vectors
    errors: Mapping[int, SightwordError]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label, its score (a probability) and its cosine to the item."""

    label: str
    score: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The labels of one item, best first; `label` is None where no score reaches the threshold, or with an `error`."""

    label: str | None
    score: float | None
    predictions: list[Prediction]
    error: SightwordError | None = None


def classification_of(predictions: list[Prediction]) -> Classification:
    """Of what is left, best first."""
    if not predictions:
        return Classification(None, None, [])
    return Classification(predictions[0].label, predictions[0].score, predictions)


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """Matrices [queries, candidates]; `probability` is a softmax over the candidates of a query (SigLIP: sigmoid)."""

    cosine: Vectors
    probability: Vectors


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate: its index in the list, its score from 0 to 1 (comparable between lists), and its cosine."""

    index: int
    score: float
    cosine: float


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A stored label set."""

    name: str
    labels: list[str]
    templates: list[str]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model; vectors of two models (by `digest`) must not be compared."""

    id: str
    digest: str
    dimensions: int
    context_length: int
    image_size: int
    logit_scale: float
    logit_bias: float | None
    precision: str
    provider: str
    aliases: list[str] = field(default_factory=list)
    mixture_tokens: int | None = (
        None  # vectors of a picture, which are mixed for each text (Llip); None where it is one
    )


@dataclass(frozen=True, slots=True)
class Info:
    """What is served: the models, the default one first, and the limits of a request."""

    version: str
    models: list[ModelInfo]
    template_sets: Mapping[str, list[str]]
    limits: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def model(self, name: str | None = None) -> ModelInfo:
        """The model of that id or alias, or the default one. Raises ModelNotFoundError."""
        if name is None:
            return self.models[0]
        for model in self.models:
            if name in (model.id, *model.aliases):
                return model
        served = ", ".join(model.id for model in self.models)
        raise ModelNotFoundError(f"There is no model {name!r} here, only {served}.", param="model", code=None)
