"""WordNet's nouns from its own data files (wndb(5WN)), as Debian's package `wordnet-base` installs them.

NLTK's reader wants a file `lexnames` that the package does not hold and refuses folders outside its own; `wn` reads
another format. So the four files that are needed are read here: an index by word, a line by byte offset.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from training.config import ConfigError

WORDNET = Path("/usr/share/wordnet")  # where Debian and Ubuntu have it
NOUN, VERB, ADJECTIVE, ADVERB = PARTS = ("noun", "verb", "adj", "adv")
# The parts of speech by the digit of a sense key; 5 are adjectives that stand beside another.
_DIGITS = {"1": NOUN, "2": VERB, "3": ADJECTIVE, "4": ADVERB, "5": ADJECTIVE}
# Endings and what takes their place, as morphy(7WN) lists them.
_ENDINGS = {
    NOUN: (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    VERB: (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    ADJECTIVE: (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    ADVERB: (),
}  # fmt: skip


@dataclass(frozen=True)
class Synset:
    """A set of nouns with one meaning."""

    offset: int
    name: str  # as NLTK writes it, dog.n.01
    words: tuple[str, ...]  # as they are written, with spaces
    lexicographer_file: int  # lexnames(5WN): 5 animals, 6 artifacts, 13 food, ...
    hypernyms: tuple[int, ...]  # offsets
    instance: bool  # an individual such as Paris, and no class of things


class WordNet:
    """Lemmas and noun synsets of the data files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where the files are not there or are not what they should be."""
        try:
            self._senses = {part: dict(_read_index(folder / f"index.{part}")) for part in PARTS}
            self._exceptions = {part: dict(_read_exceptions(folder / f"{part}.exc")) for part in PARTS}
            self._counts = _read_counts(folder / "cntlist.rev")
            with (folder / "data.noun").open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ConfigError(
                f"objective.categories.wordnet: {folder} does not hold WordNet's data files ({error}): "
                "`apt-get install wordnet-base` puts them into /usr/share/wordnet; or name the folder that has them"
            ) from error
        except ValueError as error:
            raise ConfigError(f"objective.categories.wordnet: a file in {folder} is not WordNet's: {error}") from error
        self.synset = lru_cache(maxsize=None)(self._read_synset)

    def count(self, lemma: str, part: str) -> int:
        """How often the texts that WordNet's authors tagged have a lemma as this part of speech."""
        return self._counts.get((lemma, part), 0)

    def senses(self, lemma: str, part: str = NOUN) -> Sequence[int]:
        """The offsets of the synsets of a lemma, the most frequent one first; none where it has none."""
        return self._senses[part].get(lemma, ())

    def lemmas(self, word: str, part: str) -> list[str]:
        """What a word in lower case may be a form of, as morphy finds it: itself first, where it is one itself."""
        known = self._senses[part]
        forms = [word, *self._exceptions[part].get(word, ())]
        if len(forms) == 1:
            forms += [word.removesuffix(old) + new for old, new in _ENDINGS[part] if word.endswith(old)]
        return [form for form in dict.fromkeys(forms) if form in known]

    def begins_compound(self, word: str) -> bool:
        """Whether WordNet has nouns of several words that begin with it."""
        return word in self._compound_starts

    def kinds_of(self, synset: Synset) -> Iterator[int]:
        """The offsets of a synset and of all that it is a kind of."""
        seen, waiting = set(), [synset.offset]
        while waiting:
            offset = waiting.pop()
            if offset not in seen:
                seen.add(offset)
                waiting += self.synset(offset).hypernyms
                yield offset

    def find(self, name: str) -> Synset | None:
        """A noun synset by its name, dog.n.01; None where there is none."""
        lemma, _, number = name.rpartition(".n.")
        senses = self.senses(lemma)
        if not number.isdecimal() or not 0 < int(number) <= len(senses):
            return None
        found: Synset = self.synset(senses[int(number) - 1])
        return found

    @cached_property
    def _compound_starts(self) -> frozenset[str]:
        lemmas = self._senses[NOUN]
        return frozenset(re.split("[_-]", lemma, maxsplit=1)[0] for lemma in lemmas if "_" in lemma or "-" in lemma)

    @cached_property
    def synset_count(self) -> int:
        """How many noun synsets there are."""
        return len({offset for senses in self._senses[NOUN].values() for offset in senses})

    def _read_synset(self, offset: int) -> Synset:
        line = self._data[offset : self._data.find(b"\n", offset)].decode("utf-8")
        fields = iter(line.partition(" | ")[0].split())
        number, file, _, count = int(next(fields)), int(next(fields)), next(fields), int(next(fields), 16)
        assert number == offset
        words = [(next(fields), next(fields))[0] for _ in range(count)]
        pointers = [[next(fields) for _ in range(4)] for _ in range(int(next(fields)))]
        lemma = words[0].lower()
        return Synset(
            offset,
            f"{lemma}.n.{self._senses[NOUN][lemma].index(offset) + 1:02d}",
            tuple(word.replace("_", " ") for word in words),
            file,
            tuple(int(target) for symbol, target, _, _ in pointers if symbol in ("@", "@i")),
            any(symbol == "@i" for symbol, _, _, _ in pointers),
        )


@lru_cache(maxsize=1)
def open_wordnet(folder: Path = WORDNET) -> WordNet:
    """WordNet of a folder, read once a process. Raises ConfigError."""
    return WordNet(folder)


def _read_index(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lemma part count pointers [symbol ...] count tagged offset ..."""
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith(" "):  # as the licence at the top does
            fields = line.split()
            yield fields[0], tuple(map(int, fields[-int(fields[2]) :]))


def _read_exceptions(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Form lemma ..."""
    for line in file.read_text("utf-8").splitlines():
        form, *lemmas = line.split()
        yield form, lemmas


def _read_counts(file: Path) -> Mapping[tuple[str, str], int]:
    """Sense key, number of the sense, count: summed over the senses of a lemma."""
    counts: dict[tuple[str, str], int] = {}
    for line in file.read_text("utf-8").splitlines():
        key, _, count = line.split()
        lemma, _, rest = key.partition("%")
        where = lemma, _DIGITS[rest[0]]
        counts[where] = counts.get(where, 0) + int(count)
    return counts
