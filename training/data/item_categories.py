"""Which categories each sample has: the synsets of the nouns of all that is said of it.

A phrase is looked at once, however many samples have it; what is kept is a few bytes a sample and category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.tokenizers.categories import Category
from training.categories.nouns import NounFinder
from training.categories.vocabulary import Vocabulary, build_vocabulary
from training.data.index import SampleIndex
from training.data.opened_sources import OpenedSources
from training.data.phrase_table import PhraseColumns, PhraseTable, ragged_ranges
from training.data.phrases import CAPTION, DESCRIPTION
from training.progress import console

Indices = npt.NDArray[np.int64]
CHUNK = 65_536  # samples whose phrases are in memory at a time


@dataclass(frozen=True)
class Ragged:
    """Numbers of each of some owners: those of owner i are `values[starts[i] : starts[i + 1]]`, in ascending order."""

    starts: Indices  # [owners + 1]
    values: Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Indices:
        """How many each owner has [owners]."""
        counts: Indices = np.diff(self.starts)
        return counts

    def __getitem__(self, owner: int) -> Indices:
        return self.values[self.starts[owner] : self.starts[owner + 1]]

    def take(self, owners: Indices) -> Ragged:
        """Those of some owners, in their order."""
        counts = self.counts[owners]
        return Ragged(_ends(counts), self.values[ragged_ranges(self.starts[owners], counts)])


@dataclass(frozen=True)
class ItemCategories:
    """The categories of all samples, and what they are called as texts of a batch."""

    opened: OpenedSources
    of_samples: Ragged
    texts: list[str]


class TaggedSamples:
    """The synsets of all samples of a training set, those that are held out among them."""

    def __init__(self, opened: OpenedSources, finder: NounFinder) -> None:
        self._opened, self._finder = opened, finder
        self._known: dict[tuple[int, bool], list[tuple[int, str]]] = {}  # by phrase, and whether it is a caption
        self.synsets: list[str] = []  # by number, in the order that they came up
        self._numbers: dict[str, int] = {}
        self._lemmas: list[Counter[str]] = []
        phrases = PhraseColumns(opened.indexes, opened.synonyms, kept=opened.kept_phrases)
        sources, numbers = opened.sources, opened.numbers
        parts = [
            self._tag(phrases.look_up(sources[start : start + CHUNK], numbers[start : start + CHUNK]))
            for start in range(0, len(sources), CHUNK)
        ]
        counts = np.concatenate([part.counts for part in parts])
        self.tags = Ragged(_ends(counts), np.concatenate([part.values for part in parts]))
        self._trained = opened.included & ~opened.held_out

    def vocabulary(self, min_count: int, max_categories: int) -> Vocabulary:
        """The frequent synsets of the samples that are trained on. Raises ConfigError where there are none."""
        trained = self.tags.take(np.flatnonzero(self._trained))
        counted = np.bincount(trained.values, minlength=len(self.synsets)).tolist()
        counts = {synset: count for synset, count in zip(self.synsets, counted, strict=True) if count}
        lemmas = dict(zip(self.synsets, self._lemmas, strict=True))
        return build_vocabulary(counts, lemmas, int((trained.counts > 0).sum()), min_count, max_categories)

    def counted(self, categories: Sequence[Category]) -> Vocabulary:
        """A vocabulary of given categories, with how many samples that are trained on have each."""
        vocabulary = Vocabulary(tuple(categories), (0,) * len(categories), 0, 0)
        of_samples = self.categories(vocabulary).of_samples.take(np.flatnonzero(self._trained))
        counts = np.bincount(of_samples.values, minlength=len(categories)).tolist()
        dropped = len(set(self.synsets).difference(vocabulary.synsets))
        return replace(vocabulary, counts=tuple(counts), samples=int((of_samples.counts > 0).sum()), dropped=dropped)

    def categories(self, vocabulary: Vocabulary) -> ItemCategories:
        """The categories of each sample, of all sources one after the other, by their numbers in the vocabulary."""
        place = {synset: number for number, synset in enumerate(vocabulary.synsets)}
        numbers = np.array([place.get(synset, -1) for synset in self.synsets] or [-1], np.int64)
        owners = np.repeat(np.arange(len(self.tags)), self.tags.counts)
        values = numbers[self.tags.values] if len(self.tags.values) else self.tags.values
        of_samples = _distinct(owners[values >= 0], values[values >= 0], len(self.tags))
        return ItemCategories(self._opened, of_samples, list(vocabulary.tokenizer().labels))

    def _tag(self, table: PhraseTable) -> Ragged:
        """The synsets of some samples by their phrases, all but descriptions: those say much that is not to be seen."""
        places = np.flatnonzero(table.phrases["kind"] != DESCRIPTION)
        digests, captions = table.phrases["digest"][places], table.phrases["kind"][places] == CAPTION
        keys = np.rec.fromarrays([digests, captions])
        _, firsts, inverse, times = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        found = [
            self._synsets_of(table, int(places[first]), bool(captions[first]), int(count))
            for first, count in zip(firsts, times, strict=True)
        ]
        counts = np.array([len(each) for each in found], np.int64)
        values = np.array([number for each in found for number in each], np.int64)
        of_phrases = Ragged(_ends(counts), values).take(inverse)
        return _distinct(np.repeat(table.image[places], of_phrases.counts), of_phrases.values, len(table.counts))

    def _synsets_of(self, table: PhraseTable, place: int, caption: bool, times: int) -> list[int]:
        key = int(table.phrases["digest"][place]), caption
        if key not in self._known:
            nouns = self._finder.nouns(table.text(place), phrase=not caption)
            self._known[key] = [(self._number(noun.synset.name), noun.lemma) for noun in nouns]
        for number, lemma in self._known[key]:
            self._lemmas[number][lemma] += times
        return [number for number, _ in self._known[key]]

    def _number(self, synset: str) -> int:
        if synset not in self._numbers:
            self._numbers[synset] = len(self.synsets)
            self.synsets.append(synset)
            self._lemmas.append(Counter())
        return self._numbers[synset]


def log_without_category(
    indexes: Sequence[SampleIndex], included: npt.NDArray[np.bool_], named: npt.NDArray[np.bool_], categories: int
) -> int:
    """Print how many of the samples that are included have no category, with an example; returns how many."""
    without = np.flatnonzero(included & ~named)
    if len(without):
        ends = np.cumsum([len(index) for index in indexes])
        source = int(np.searchsorted(ends, without[0], side="right"))
        number = int(without[0] - (ends[source] - len(indexes[source])))
        console.print(
            f"{len(without):,} of {int(included.sum()):,} pictures have none of the {categories:,} categories and take "
            f"no part, such as {indexes[source].record(number).key}",
            soft_wrap=True,
            markup=False,
        )
    return len(without)


def _distinct(owners: Indices, values: Indices, count: int) -> Ragged:
    """Each value of an owner once; `owners` [entries] in any order are below `count`."""
    most = int(values.max(initial=0)) + 1
    keys = np.unique(owners * most + values)
    return Ragged(_ends(np.bincount(keys // most, minlength=count)), keys % most)


def _ends(counts: Indices) -> Indices:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
