"""Which texts of a batch are true, or may be, of which of its images: sparse, by the phrases that both have.

The pairs of some images or texts are listed when they are asked for: all of 32,000 images would be a thousand million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from training.data.phrase_table import PhraseTable, ragged_ranges
from training.data.phrases import DESCRIPTION, TAG

Indices = npt.NDArray[np.int64]


class Incidence:
    """Which phrases each of some images or texts has, by number."""

    def __init__(self, owners: Indices, phrases: Indices, count: int, phrase_count: int) -> None:
        """`owners` [entries] are below `count` and in ascending order, `phrases` [entries] are below `phrase_count`."""
        self.count, self._owners, self._phrases = count, owners, phrases
        self._phrase_count = phrase_count
        self._ends = np.concatenate([[0], np.bincount(owners, minlength=count).cumsum()])

    @cached_property
    def _by_phrase(self) -> tuple[Indices, Indices, Indices]:
        """The owners by phrase, where those of each phrase begin, and how many they are."""
        counts = np.bincount(self._phrases, minlength=self._phrase_count)
        return self._owners[np.argsort(self._phrases, kind="stable")], counts.cumsum() - counts, counts

    def pairs(self, part: slice, others: Incidence) -> Indices:
        """The places of pairs that have a phrase in common in a flattened mask [`part` of these, all others]."""
        start, stop, _ = part.indices(self.count)
        entries = slice(self._ends[start], self._ends[stop])
        owners, first, counts = others._by_phrase
        phrases = self._phrases[entries]
        rows = np.repeat(self._owners[entries] - start, counts[phrases])
        places: Indices = rows * others.count + owners[ragged_ranges(first[phrases], counts[phrases])]
        return places


@dataclass(frozen=True)
class Pairs:
    """Places in a flattened mask; an ignored pair that is positive as well is positive."""

    positive: Indices
    ignored: Indices


class Matches:
    """The phrases of a batch's images, true ones or others, and of its texts, alone in them or among others.

    A text that is one phrase is true of images of which that is true, and ignored where it is possible; one of several
    phrases is ignored for all images with any of them.
    """

    def __init__(
        self, true: Incidence, possible: Incidence, either: Incidence, alone: Incidence, among: Incidence
    ) -> None:
        self._true, self._possible, self._either = true, possible, either  # of images
        self._alone, self._among = alone, among  # of texts

    def of_images(self, images: slice) -> Pairs:
        """Of masks [images, all texts]."""
        ignored = self._possible.pairs(images, self._alone), self._either.pairs(images, self._among)
        return Pairs(self._true.pairs(images, self._alone), np.concatenate(ignored))

    def of_texts(self, texts: slice) -> Pairs:
        """Of masks [texts, all images]."""
        ignored = self._alone.pairs(texts, self._possible), self._among.pairs(texts, self._either)
        return Pairs(self._alone.pairs(texts, self._true), np.concatenate(ignored))


def match(table: PhraseTable, texts: Sequence[Sequence[int]], drawn: Indices) -> Matches:
    """The matches of images, by `table`, and of texts, by the digests of the phrases in each.

    `drawn` [images] is the text that was sampled for each image.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    said = np.fromiter(chain.from_iterable(texts), np.int64, lengths.sum())
    digests, said = np.unique(said, return_inverse=True)
    kinds, known = table.phrases["kind"], table.phrases["digest"]
    phrase = np.searchsorted(digests, known).clip(max=len(digests) - 1)
    found = (digests[phrase] == known) & (kinds != DESCRIPTION)
    image, phrase, true = table.image[found], phrase[found], kinds[found] != TAG
    text, alone = np.repeat(np.arange(len(texts)), lengths), np.repeat(lengths == 1, lengths)
    return _matches(len(digests), (image, phrase, true), (text, said, alone), drawn, len(texts))


def match_drawn(drawn: Indices, texts: int) -> Matches:
    """The matches where each text is true of the images that it was sampled for, and of no other."""
    none = np.zeros(0, np.int64)
    return _matches(0, (none, none, none > 0), (none, none, none > 0), drawn, texts)


def match_numbers(images: Indices, texts: Indices, count: tuple[int, int]) -> Matches:
    """The matches where text `texts[i]` is true of image `images[i]` [pairs], and of so many images and texts no other.

    `images` are in ascending order.
    """
    none, numbers = np.zeros(0, np.int64), np.arange(count[1])

    def empty(owners: int) -> Incidence:
        return Incidence(none, none, owners, count[1])

    return Matches(
        Incidence(images, texts, *count),
        empty(count[0]),
        Incidence(images, texts, *count),
        Incidence(numbers, numbers, count[1], count[1]),
        empty(count[1]),
    )


def _matches(
    phrases: int,
    of_images: tuple[Indices, Indices, npt.NDArray[np.bool_]],
    of_texts: tuple[Indices, Indices, npt.NDArray[np.bool_]],
    drawn: Indices,
    texts: int,
) -> Matches:
    """Of entries: image, phrase, and whether it is true; text, phrase, and whether it is alone."""
    count = phrases + texts  # what was sampled for an image is true of it: as if each text were a phrase, too
    image, phrase, true = of_images
    text, said, alone = of_texts
    images, columns = np.arange(len(drawn)), np.arange(texts)

    def incidence(owners: Indices, numbers: Indices, owner_count: int) -> Incidence:
        order = np.argsort(owners, kind="stable")
        return Incidence(owners[order], numbers[order], owner_count, count)

    return Matches(
        incidence(np.append(image[true], images), np.append(phrase[true], phrases + drawn), len(drawn)),
        incidence(image[~true], phrase[~true], len(drawn)),
        incidence(image, phrase, len(drawn)),
        incidence(np.append(text[alone], columns), np.append(said[alone], phrases + columns), texts),
        incidence(text[~alone], said[~alone], texts),
    )
