"""What a model knows of classes by their names alone, as the initial weights of a linear head over its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from model.embedder import Embedder, Vectors
from model.tokenizers.categories import CategoryTokenizer
from model.zeroshot import class_vectors, template_vectors
from training.categories.transfer import ClassFinder
from training.categories.wordnet import open_wordnet

TEXT, NAME, WORDNET, NONE = "the text tower", "a category of that name", "categories by WordNet", "nothing"


@dataclass(frozen=True)
class InitialHead:
    """Weights [classes, dim], what they come from by the number of classes, and of each class the categories, if so."""

    weights: Vectors
    sources: dict[str, int]
    categories: dict[str, list[str]] = field(default_factory=dict)


def initial_head(embedder: Embedder, names: Sequence[Sequence[str]], templates: Sequence[str]) -> InitialHead:
    """The zero-shot classifier as a head: vectors of the classes' names, each in the templates, times the logit scale.

    Of a model that knows categories by name only, a class has the row of the category of its name; where there is none
    the normalised mean of the rows that WordNet finds for it (see `training.categories.transfer`), and where WordNet
    finds none the mean of the other classes' rows, which prefers none of them. Raises ConfigError where WordNet is
    needed and not there.
    """
    scale = embedder.bundle.logit_scale
    if embedder.bundle.categories is None:
        vectors = template_vectors(embedder.embed_texts, names, templates)
        return InitialHead(scale * class_vectors(vectors.transpose(1, 0, 2)), {TEXT: len(names)})
    rows = _CategoryRows(embedder)
    found = [rows.find(several) for several in names]
    weights = np.stack([rows.mean(numbers) for numbers, _ in found])
    known = [bool(numbers) for numbers, _ in found]
    if not all(known) and any(known):
        weights[np.logical_not(known)] = weights[known].mean(axis=0)
    counts = {kind: sum(source == kind for _, source in found) for kind in (NAME, WORDNET, NONE)}
    shown = {
        several[0]: [rows.labels[number] for number in numbers]
        for several, (numbers, _) in zip(names, found, strict=True)
    }
    return InitialHead(scale * weights, {kind: count for kind, count in counts.items() if count}, shown)


class _CategoryRows:
    """The rows of all categories, and which of them tell of a class."""

    def __init__(self, embedder: Embedder) -> None:
        tokenizer = embedder.bundle.tokenizer()
        assert isinstance(tokenizer, CategoryTokenizer)
        self._tokenizer, self.labels = tokenizer, tokenizer.labels
        self._rows = embedder.embed_texts(tokenizer.labels)

    def find(self, names: Sequence[str]) -> tuple[list[int], str]:
        """The numbers of the categories for a class that is called so, and how they were found."""
        unknown = set(self._tokenizer.unknown(names))
        known = [name for name in names if name not in unknown]
        if known:
            return sorted({index - 1 for [index] in self._tokenizer.encode(known)}), NAME
        kinds = sorted({number for name in names for number in self._finder.find(name)})
        return (kinds, WORDNET) if kinds else ([], NONE)

    def mean(self, numbers: Sequence[int]) -> Vectors:
        """Of these rows, of unit length; zeros of none."""
        if not numbers:
            return np.zeros(self._rows.shape[1], np.float32)
        mean: Vectors = class_vectors(self._rows[np.newaxis, numbers])[0]
        return mean

    @cached_property
    def _finder(self) -> ClassFinder:
        return ClassFinder(open_wordnet(), [category.synset for category in self._tokenizer.categories])
