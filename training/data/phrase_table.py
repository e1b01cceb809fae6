"""The phrases of the images of a batch as columns, looked up in the indexes, those that synonyms add among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.index import SampleIndex
from training.data.phrases import (
    COARSE,
    KIND_NAMES,
    LABEL,
    PHRASE,
    SYNONYM,
    decode_phrase,
    encode_phrase,
    phrase_digest,
)

Indices = npt.NDArray[np.int64]
KINDS = len(KIND_NAMES)


@dataclass(frozen=True)
class PhraseTable:
    """Phrases of images by image, then by kind, then as they came; those of a kind of an image are neighbours."""

    image: Indices  # [phrases] to which of the images each belongs
    source: Indices  # [phrases] the number of the buffer that holds its text
    phrases: npt.NDArray[Any]  # [phrases] PHRASE
    counts: Indices  # [images, kinds] how many of each kind
    first: Indices  # [images, kinds] the place of the first of them
    buffers: Sequence[memoryview]
    caption_source: Indices | None = None  # [phrases] the source of a caption by number, where they are mixed

    def text(self, place: int) -> str:
        """The text of a phrase."""
        start, size = self.phrases["start"][place], self.phrases["size"][place]
        return decode_phrase(self.buffers[self.source[place]][start : start + size])


class PhraseColumns:
    """The phrases of all samples of a training set."""

    def __init__(
        self,
        indexes: Sequence[SampleIndex],
        synonyms: Mapping[str, Sequence[str]],
        caption_sources: Indices | None = None,
        kept: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        """`synonyms` are by phrase in lower case; `caption_sources` as `CaptionMix.source_numbers` gives them.

        `kept` says of all phrases of each index which are not filtered out; None where all are kept.
        """
        self._indexes, self._kept = indexes, kept
        self._caption_sources = caption_sources
        numbers = {text: number for number, text in enumerate(dict.fromkeys(chain.from_iterable(synonyms.values())))}
        self._added = _phrases_of(numbers)
        self._synonyms = {
            phrase_digest(name): tuple(dict.fromkeys(numbers[text] for text in texts))
            for name, texts in synonyms.items()
        }
        added = memoryview(b"".join(map(encode_phrase, numbers)))
        self._buffers = [*(index.texts.data for index in indexes), added]

    def look_up(self, sources: npt.NDArray[np.int16], numbers: Indices) -> PhraseTable:
        """The phrases of images by the `sources` and the `numbers` in their indexes [images]."""
        parts = [
            self._of_source(source, rows, numbers[rows])
            for source in range(len(self._indexes))
            if len(rows := np.flatnonzero(sources == source))
        ]
        if self._synonyms:
            parts.append(self._of_synonyms(parts, len(sources)))
        image, source, phrases = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        key = image * KINDS + phrases["kind"]
        order = np.argsort(key, kind="stable")
        counts = np.bincount(key, minlength=len(sources) * KINDS)
        first = np.cumsum(counts) - counts
        shape = len(sources), KINDS
        source, phrases = source[order], phrases[order]
        numbers_of = self._caption_sources
        mixed = None
        if numbers_of is not None:  # those of synonyms come last, and are no captions
            mixed = numbers_of[source.clip(max=len(self._indexes) - 1), phrases["field"]]
        counts, first = counts.reshape(shape), first.reshape(shape)
        return PhraseTable(image[order], source, phrases, counts, first, self._buffers, mixed)

    def _of_source(self, source: int, rows: Indices, numbers: Indices) -> tuple[Indices, Indices, npt.NDArray[Any]]:
        index = self._indexes[source]
        counts = index.samples["phrase_count"][numbers]
        places, images = ragged_ranges(index.samples["phrase"][numbers], counts), np.repeat(rows, counts)
        if self._kept is not None:
            kept = self._kept[source][places]
            places, images = places[kept], images[kept]
        phrases = index.phrases[places]
        return images, np.full(len(phrases), source), phrases

    def _of_synonyms(
        self, parts: Sequence[tuple[Indices, Indices, npt.NDArray[Any]]], images: int
    ) -> tuple[Indices, Indices, npt.NDArray[Any]]:
        names = np.zeros((2, images), np.int64)  # digests of label and coarse, 0 for none
        for image, _, phrases in parts:
            for place, kind in enumerate((LABEL, COARSE)):
                mine = phrases["kind"] == kind
                names[place, image[mine]] = phrases["digest"][mine]
        found = [self._synonyms_of(label, coarse) for label, coarse in names.T.tolist()]
        counts = np.fromiter(map(len, found), np.int64, images)
        phrases = self._added[np.fromiter(chain.from_iterable(found), np.int64)]
        return np.repeat(np.arange(images), counts), np.full(len(phrases), len(self._indexes)), phrases

    def _synonyms_of(self, label: int, coarse: int) -> tuple[int, ...]:
        first, more = self._synonyms.get(label, ()), self._synonyms.get(coarse, ())
        return tuple(dict.fromkeys((*first, *more))) if more else first


def ragged_ranges(first: Indices, counts: Indices) -> Indices:
    """`first[0]` and the `counts[0] - 1` numbers after it, then those from `first[1]` on, and so on."""
    ends = np.cumsum(counts)
    ranges: Indices = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
    return ranges


def _phrases_of(synonyms: Mapping[str, int]) -> npt.NDArray[Any]:
    """The texts one after the other in a buffer."""
    phrases = np.zeros(len(synonyms), PHRASE)
    start = 0
    for text, number in synonyms.items():
        size = len(encode_phrase(text))
        phrases[number] = start, size, SYNONYM, phrase_digest(text), 0, -1
        start += size
    return phrases
