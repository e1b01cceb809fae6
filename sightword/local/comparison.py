"""Vectors of items, several of a picture where the model mixes them for each text, and the cosines between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from model.runtime.engine import Engine
from sightword.errors import SightwordError, UnsupportedModalityError
from sightword.plans import texts_and_pictures
from sightword.results import Vectors
from sightword.scores import cosines_of

NO_ONE_VECTOR = (
    'this model makes several vectors of a picture and mixes them for each text: ask for output="tokens", or compare '
    "pictures with texts by similarity, classify or rank."
)


@dataclass(slots=True)
class Embeddings:
    """Vectors [items, dimensions], rows of bad items NaN; `tokens`, by index, of pictures that have several."""

    vectors: Vectors
    tokens: dict[int, Vectors] = field(default_factory=dict)
    errors: Mapping[int, SightwordError] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Embeddings:
        """Of the items from `start` to before `stop`."""
        tokens = {index - start: each for index, each in self.tokens.items() if start <= index < stop}
        return Embeddings(self.vectors[start:stop], tokens)


def compare(engine: Engine, first: Embeddings, second: Embeddings) -> Vectors:
    """Cosines [first, second]. Raises UnsupportedModalityError for two pictures whose vectors only a text mixes."""
    if first.tokens and second.tokens:
        raise UnsupportedModalityError(
            "This model mixes the vectors of a picture for the text that it is compared with, so that two pictures "
            "have no cosine: give pictures on one side and texts on the other.",
            param="candidates",
        )
    cosines = cosines_of(first.vectors, second.vectors)
    if first.tokens:
        cosines[list(first.tokens)] = engine.cosines(np.stack(list(first.tokens.values())), second.vectors)
    if second.tokens:
        cosines[:, list(second.tokens)] = engine.cosines(np.stack(list(second.tokens.values())), first.vectors).T
    return cosines


def stacked(embedded: Embeddings, vectors: Vectors) -> Vectors:
    """Of each item its tokens, or its row of `vectors`: [items, tokens, dimensions]; those of bad items are NaN.

    Raises InvalidRequestError where a text has one vector and a picture several.
    """
    good = set(range(len(vectors))) - embedded.errors.keys()
    count = next((len(each) for each in embedded.tokens.values()), 1)
    if count > 1 and good != embedded.tokens.keys():
        raise texts_and_pictures()
    result = np.full((len(vectors), count, vectors.shape[1]), np.nan, np.float32)
    for index in good:
        result[index] = embedded.tokens.get(index, vectors[index])
    return result
