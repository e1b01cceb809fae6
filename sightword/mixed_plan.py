"""Comparing by a model that mixes the vectors of a picture for each text: the service compares, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sightword.connection import Limits
from sightword.errors import Params
from sightword.items import content_of, listed, to_json
from sightword.plans import PairPlan, Part, Plan
from sightword.protocol import Answer, body_of
from sightword.results import ModelInfo, Vectors


def comparison_plan(
    first: Any, second: Any, names: tuple[str, str], options: Mapping[str, Any], model: ModelInfo
) -> PairPlan | MixedPlan:
    """What compares two lists: their vectors, or where there are pictures of a mixture model the service itself."""
    if model.mixture_tokens is None:
        return PairPlan(first, second, names, options)
    lists = list(listed(first)), list(listed(second))
    has_pictures = [not all(isinstance(item, str) for item in items) for items in lists]
    if not any(has_pictures):
        return PairPlan(*lists, names, options)
    return MixedPlan(lists, names, options, swapped=has_pictures[0] and not has_pictures[1])


class MixedPlan(Plan[Vectors]):
    """To cosines [first, second]. Each block of one list goes along with every part of the other, which has pictures.

    With `swapped` that is the first list.
    """

    path = "similarity"

    def __init__(
        self, lists: tuple[list[Any], list[Any]], names: tuple[str, str], options: Mapping[str, Any], swapped: bool
    ) -> None:
        self._texts: list[Any]
        self._texts, pictures = reversed(lists) if swapped else lists
        self._text_name, self._picture_name = reversed(names) if swapped else names
        super().__init__(pictures, options, "fail")
        if len(self._texts) > 1:
            self.total = None  # each picture is sent once for each block
        self._swapped = swapped
        self._block: list[bytes] = []
        self._block_names: list[str] = []
        self._cosines = np.empty((len(self._texts), len(pictures)), np.float32)

    def name(self, index: int) -> str:
        """Of a picture."""
        return _name(self._picture_name, index)

    def parts(self, limits: Limits) -> Iterator[Part]:
        """The requests, block by block."""
        step = self.most_items(limits)
        for start in range(0, len(self._texts), step):
            some = list(enumerate(self._texts[start : start + step], start))
            self._block_names = [_name(self._text_name, index) for index, _ in some]
            self._block = [
                to_json(content_of(text, name)) for (_, text), name in zip(some, self._block_names, strict=True)
            ]
            for part in super().parts(limits):
                part.block = range(start, start + len(some))
                yield part

    def body(self, inputs: Sequence[bytes]) -> bytes:
        """Of the request with these pictures and the block."""
        return body_of(self._options, queries=self._block, candidates=inputs)

    def names(self, part: Part) -> Params:
        """Of both lists of its request."""
        return {"queries": self._block_names, "candidates": part.params}

    def read(self, part: Part, answer: Answer) -> None:
        """Keep the cosines."""
        cosine = np.asarray(answer.json()["cosine"], np.float32)
        self._cosines[np.ix_(part.block, part.indices)] = cosine.reshape(len(part.block), len(part.indices))

    def cosines(self, dimensions: int) -> Vectors:
        """[first, second]."""
        return self._cosines.T if self._swapped else self._cosines


def _name(field: str, index: int) -> str:
    return field if field == "query" else f"{field}.{index}"
