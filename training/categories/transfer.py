"""Which categories of a vocabulary tell of a class: CatLIP's transfer initialisation begins with their rows."""

from __future__ import annotations

from collections.abc import Sequence

from training.categories.nouns import NounFinder
from training.categories.wordnet import Synset, WordNet


class ClassFinder:
    """Finds the categories for the names of classes.

    The paper (section 5.1) takes the row of a class's own synset; classes that the vocabulary lacks have, here, the
    rows of their kinds, or else of the nearest thing that they are a kind of.
    """

    def __init__(self, wordnet: WordNet, synsets: Sequence[str]) -> None:
        """`synsets` are those of the vocabulary in order, as dog.n.01; names that are no synset are found by nobody."""
        self._wordnet, self._nouns = wordnet, NounFinder(wordnet)
        found = [(number, wordnet.find(synset)) for number, synset in enumerate(synsets)]
        self._numbers = {synset.offset: number for number, synset in found if synset is not None}
        self._kinds = {offset: frozenset(wordnet.kinds_of(wordnet.synset(offset))) for offset in self._numbers}

    def synset(self, name: str) -> Synset | None:
        """What the name of a class means: a synset's name itself, or the first sense of its last noun."""
        if exact := self._wordnet.find(name):
            return exact
        nouns = self._nouns.nouns(name, phrase=True)
        return nouns[-1].synset if nouns else None

    def find(self, name: str) -> list[int]:
        """The numbers of the categories for a class: itself, else its kinds, else the nearest that it is a kind of."""
        synset = self.synset(name)
        if synset is None:
            return []
        if synset.offset in self._numbers:
            return [self._numbers[synset.offset]]
        if kinds := [self._numbers[offset] for offset, above in self._kinds.items() if synset.offset in above]:
            return kinds
        level = list(synset.hypernyms)
        while level:
            if nearest := sorted({self._numbers[offset] for offset in level if offset in self._numbers}):
                return nearest
            level = [above for offset in level for above in self._wordnet.synset(offset).hypernyms]
        return []
