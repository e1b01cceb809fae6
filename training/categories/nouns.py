"""The nouns of a text as WordNet synsets, the first sense of each, by WordNet's own data and a few rules of English.

CatLIP (section 3.1) tags words with NLTK's trained tagger; its published code then takes every word of which WordNet
has a noun. Here a word is a noun if WordNet's tagged texts have it as one more often than as a verb or an adjective,
unless the words beside it decide; and several words that WordNet has together are one ("ice cream").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from training.categories.wordnet import ADJECTIVE, NOUN, PARTS, VERB, Synset, WordNet
from training.categories.words import AUXILIARIES, COLOURS, DETERMINERS, FRAMES, FUNCTION_WORDS, PREPOSITIONS, PRONOUNS

MAX_WORDS = 4  # of a compound
MAX_TOKENS = 500  # of a text; CLIP reads 77
_TOKEN = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*|[^\w\s]")
_POSSESSIVE = re.compile(r"['’]s?$")
# Lexicographer files of what can be seen: animals, artifacts, bodies, food, objects, persons, plants, substances.
_PERSON = 18
_VISIBLE = frozenset({5, 6, 8, 13, 17, _PERSON, 20, 27})
_AND = frozenset({"and", "or"})


@dataclass(frozen=True)
class Noun:
    """A noun of a text: the lemma that was found, and its first sense."""

    lemma: str
    synset: Synset


class NounFinder:
    """Finds the nouns of texts."""

    def __init__(self, wordnet: WordNet) -> None:
        self._wordnet = wordnet
        self._lemmas = lru_cache(maxsize=2**16)(wordnet.lemmas)
        self._count = lru_cache(maxsize=2**16)(self._tagged)

    def nouns(self, text: str, *, phrase: bool = False) -> list[Noun]:
        """Those of a sentence, or of a noun `phrase` as labels are, whose last word is a noun; each once, in order."""
        words = [_POSSESSIVE.sub("", token) for token in _TOKEN.findall(text.lower().replace("’", "'"))][:MAX_TOKENS]
        return list(dict.fromkeys(self._find([word for word in words if word], phrase)))

    def first_sense(self, lemma: str) -> Synset | None:
        """The first synset of a lemma that is a class of things and no individual: "china" is no country."""
        synsets = map(self._wordnet.synset, self._wordnet.senses(lemma))
        return next((synset for synset in synsets if not synset.instance), None)

    def _find(self, words: Sequence[str], phrase: bool) -> Iterator[Noun]:
        place, last = 0, -1  # the word that was found last
        while place < len(words):
            size, found = self._compound(words, place)
            after = words[place + size] if place + size < len(words) else ""
            if found is None and (parts := _parts(words[place])):  # WordNet does not have it as one
                yield from self._find(parts, True)
            elif found is None and not _is_function_word(words, place):
                found = self._single(words, place, phrase, last)
            if found is not None and not _is_frame(found.lemma, after):
                yield found
                last = place + size - 1
            place += size

    def _compound(self, words: Sequence[str], place: int) -> tuple[int, Noun | None]:
        """How many words from `place` on WordNet has as one noun, and that noun; else one word, and None."""
        for size in range(min(MAX_WORDS, len(words) - place), 0, -1):
            parts = words[place : place + size]
            if (size == 1 and "-" not in parts[0]) or not FUNCTION_WORDS.isdisjoint(parts):
                continue
            if not all(part[0].isalpha() for part in parts):
                continue
            for whole in self._spellings(parts):
                for lemma in self._lemmas(whole, NOUN):
                    if synset := self._sense_of_compound(lemma, words, place, size):
                        return size, Noun(lemma, synset)
        return 1, None

    def _spellings(self, parts: Sequence[str]) -> list[str]:
        """How WordNet may write a compound: "fire hydrant", "t-shirt", "sail boat"."""
        spellings = (
            [sep.join(parts).replace("-", sep) for sep in "_-"] if self._wordnet.begins_compound(parts[0]) else []
        )
        return [*spellings, "".join(parts).replace("-", "")] if len(parts) <= 2 else spellings

    def _sense_of_compound(self, lemma: str, words: Sequence[str], place: int, size: int) -> Synset | None:
        """The first sense; of an adjective and a noun the first that is a kind of that noun: no "hot dog" is a person.

        Else the first that is a thing: a "remote control" is a device.
        """
        first, head = words[place], words[place + size - 1]
        if size == 1 or self._count(first, ADJECTIVE) <= self._count(first, NOUN):
            return self.first_sense(lemma)
        if place + size < len(words) and self._compound(words, place + 1)[0] >= size:
            return None  # a "red fire hydrant" is no red fire
        heads = {self._wordnet.senses(each)[0] for each in self._lemmas(head, NOUN)}
        senses = [self._wordnet.synset(offset) for offset in self._wordnet.senses(lemma)]
        kinds = [each for each in senses if not each.instance and not heads.isdisjoint(self._wordnet.kinds_of(each))]
        things = [each for each in senses if not each.instance and each.lexicographer_file in _VISIBLE - {_PERSON}]
        return next(iter(kinds + things), None)

    def _single(self, words: Sequence[str], place: int, phrase: bool, last: int) -> Noun | None:
        lemmas = self._lemmas(words[place], NOUN)
        if not lemmas or len(words[place]) < 2:
            return None
        # "arms" are more often arms than weapons; of what was never tagged the form stays as it is.
        lemma = max(lemmas, key=lambda each: self._wordnet.count(each, NOUN))
        synset = self.first_sense(lemma)
        if synset is None:
            return None
        head = phrase and place == len(words) - 1
        return Noun(lemma, synset) if head or self._is_noun(words, place, synset, last) else None

    def _is_noun(self, words: Sequence[str], place: int, synset: Synset, last: int) -> bool:
        """Whether a word that can be a noun is one; `last` is the place of the noun that was found before it."""
        word = words[place]
        before = words[place - 1] if place else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        noun, verb, adjective, adverb = (self._count(word, part) for part in PARTS)
        visible = synset.lexicographer_file in _VISIBLE
        ends = not after[:1].isalpha() or after in FUNCTION_WORDS  # nothing follows that it could stand before
        if max(verb, adjective, adverb) < 0:
            return True
        if before in PRONOUNS or before == "not" or (before in AUXILIARIES and word.endswith("ing")):
            return False
        if word in COLOURS:
            return ends and before in DETERMINERS and after not in _AND
        if word.endswith("ing") and verb >= 0:
            if after in DETERMINERS | PRONOUNS:
                return False
            return self._opens(before) if ends else visible
        if self._opens(before):
            return noun >= adjective or (ends and after not in _AND)
        if ends and (place == 0 or before in PREPOSITIONS - {"to"} or (before in _AND and last == place - 2)):
            return noun >= adjective
        if verb >= 0 and place and last == place - 1 and self._is_plural(word) != self._is_plural(before):
            return visible and noun >= verb  # a subject and its verb agree: "wolves howl", "a boy blows"
        return noun >= max(verb, adjective, adverb)

    def _opens(self, before: str) -> bool:
        """Whether a noun is to come after a word: a determiner or an adjective."""
        if before in FUNCTION_WORDS:
            return before in DETERMINERS
        return self._count(before, ADJECTIVE) > max(self._count(before, NOUN), self._count(before, VERB))

    def _is_plural(self, word: str) -> bool:
        return word not in self._lemmas(word, NOUN)

    def _tagged(self, word: str, part: str) -> int:
        """How often a word, in any form, was tagged as a part of speech; -1 where it cannot be one."""
        lemmas = self._lemmas(word, part)
        return max((self._wordnet.count(lemma, part) for lemma in lemmas), default=-1)


def _is_function_word(words: Sequence[str], place: int) -> bool:
    """Whether a word says nothing by itself; after a determiner "can" and "will" do."""
    word = words[place]
    determined = place > 0 and words[place - 1] in DETERMINERS
    return word in FUNCTION_WORDS and not (determined and word in AUXILIARIES)


def _is_frame(lemma: str, after: str) -> bool:
    """Whether a noun says how an image was made, or how many of something there are: "a close-up photo of ..."."""
    return lemma in FRAMES and (after == "of" or after in FRAMES)


def _parts(word: str) -> list[str]:
    """Those of a word with hyphens; none of any other."""
    return [part for part in word.split("-") if part] if "-" in word else []
