"""How good captions are, source by source: how long, how various, how often repeated, how alike to their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.config import Data
from training.data.caption_filters import filter_captions, is_file_name, pictures_of_captions
from training.data.caption_mix import CaptionMix
from training.data.caption_similarity import Similarities, caption_similarities
from training.data.image_reader import ImageReader
from training.data.index import SampleIndex, index_cache, open_index
from training.data.languages import LanguageFilter, words_of
from training.data.phrases import CAPTION
from training.progress import track

Places = npt.NDArray[np.int64]  # of captions among the phrases of an index

SEGMENT = 1000  # words of which the distinct ones are counted; of more words there are always fewer new ones
EXAMPLES = 5
LONGEST_BAR = 40  # words; longer captions are in the last bar
QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}
NO_SOURCE = "of no source"


@dataclass(frozen=True, slots=True)
class Example:
    """A caption of a picture, and its cosine to that under the teacher."""

    key: str
    caption: str
    similarity: float


@dataclass(frozen=True)
class SourceQuality:
    """The figures of a source; shares are of its captions, and `similarity` is None without a teacher."""

    source: str
    fields: list[str]
    pictures: int
    captions: int
    words: Mapping[str, float]  # of a caption: mean, 5 %, median, 95 %
    lengths: list[int]  # captions of 0, 1, ... and LONGEST_BAR or more words
    distinct_words: int
    type_token: float  # distinct words of SEGMENT words, the mean; of all where they are fewer
    repeated: float  # share that is said of another picture, too
    most_repeated: list[tuple[str, int]]
    file_names: float
    other_languages: float
    kept: int  # captions that the filters of the configuration keep
    similarity: Mapping[str, float] | None = None
    similarities: list[int] = field(default_factory=list)  # captions by similarity, from -1 to 1 in 40 steps
    worst: list[Example] = field(default_factory=list)
    best: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionQuality:
    """The figures of all sources, and what the filters would leave out."""

    sources: list[SourceQuality]
    languages: list[str]
    teacher: str | None
    left_out: Mapping[str, int]
    dropped: int

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge_captions(data: Data, base: Path) -> CaptionQuality:
    """The quality of the captions of all training data. Raises ShardError, ConfigError, BundleError, EngineError."""
    captions = data.captions
    indexes = [open_index(source, base, index_cache(data), captions.field_names) for source in data.train]
    similarities = None
    if captions.teacher:
        similarities = caption_similarities(indexes, captions.teacher, ImageReader(), base)
    filtered = filter_captions(captions.filters, indexes, similarities)
    languages = captions.filters.languages or ["en"]
    mix = CaptionMix(captions)
    judged = _Judge(indexes, mix, LanguageFilter(languages), similarities, filtered.kept)
    found = [judged.quality(number) for number in range(len(mix.names) + 1)]
    teacher = Path(captions.teacher).name if captions.teacher else None
    sources = [quality for quality in found if quality.captions]
    return CaptionQuality(sources, languages, teacher, dict(filtered.counts), filtered.dropped)


class _Judge:
    """The captions of all indexes, by source."""

    def __init__(
        self,
        indexes: Sequence[SampleIndex],
        mix: CaptionMix,
        language: LanguageFilter,
        similarities: Sequence[Similarities] | None,
        kept: Sequence[npt.NDArray[np.bool_]],
    ) -> None:
        self._indexes, self._names, self._language = indexes, [*mix.names, NO_SOURCE], language
        self._similarities, self._kept = similarities, kept
        self._sources = mix.source_numbers(indexes)
        self._pictures = dict(zip(*(each.tolist() for each in pictures_of_captions(indexes)), strict=True))

    def quality(self, source: int) -> SourceQuality:
        """The figures of a source by its number."""
        places = [self._places(number, source) for number in range(len(self._indexes))]
        return SourceQuality(
            source=self._names[source],
            fields=self._fields(source),
            pictures=sum(len(np.unique(self._owners(number, found))) for number, found in enumerate(places)),
            captions=sum(map(len, places)),
            kept=sum(int(self._kept[number][found].sum()) for number, found in enumerate(places)),
            **self._of_texts(places, self._names[source]),
            **self._of_similarities(places),
        )

    def _of_texts(self, places: Sequence[Places], what: str) -> dict[str, Any]:
        """The figures that follow from what captions say."""
        total = sum(map(len, places))
        lengths, vocabulary, repeated = Counter[int](), set[str](), Counter[str]()
        others = files = 0
        segments, segment = list[float](), list[str]()
        for text, digest in track(self._texts(places), f"reading captions, {what}", total):
            words = words_of(text)
            lengths[len(words)] += 1
            vocabulary.update(words)
            others += self._language.is_other(text)
            files += is_file_name(text)
            if self._pictures[digest] > 1:
                repeated[text.lower()] += 1
            segment += words
            while len(segment) >= SEGMENT:
                segments.append(len(set(segment[:SEGMENT])) / SEGMENT)
                segment = segment[SEGMENT:]
        shortened = Counter[int]()
        for length, count in lengths.items():
            shortened[min(length, LONGEST_BAR)] += count
        return {
            "words": _spread(np.repeat(list(lengths), list(lengths.values()))) if total else {},
            "lengths": [shortened[bar] for bar in range(LONGEST_BAR + 1)],
            "distinct_words": len(vocabulary),
            "type_token": float(np.mean(segments)) if segments else len(set(segment)) / max(1, len(segment)),
            "repeated": repeated.total() / max(1, total),
            "most_repeated": repeated.most_common(EXAMPLES),
            "file_names": files / max(1, total),
            "other_languages": others / max(1, total),
        }

    def _places(self, number: int, source: int) -> Places:
        """The places of the captions of a source among the phrases of an index."""
        phrases = self._indexes[number].phrases
        return np.flatnonzero((phrases["kind"] == CAPTION) & (self._sources[number][phrases["field"]] == source))

    def _texts(self, places: Sequence[Places]) -> Iterator[tuple[str, int]]:
        for number, found in enumerate(places):
            index = self._indexes[number]
            for place in found.tolist():
                yield index.phrase_text(place), int(index.phrases["digest"][place])

    def _owners(self, number: int, places: Places) -> Places:
        """The samples that phrases are of."""
        owners: Places = np.searchsorted(self._indexes[number].samples["phrase"], places, "right") - 1
        return owners

    def _fields(self, source: int) -> list[str]:
        found = set[str]()
        for numbers, index in zip(self._sources, self._indexes, strict=True):
            found |= {name for name, of in zip(index.fields, numbers.tolist(), strict=False) if of == source}
        return sorted(found)

    def _of_similarities(self, places: Sequence[Places]) -> dict[str, Any]:
        if self._similarities is None:
            return {}
        values = np.concatenate([of[found] for of, found in zip(self._similarities, places, strict=True)])
        known = np.flatnonzero(~np.isnan(values))
        if not len(known):
            return {}
        order = [(number, place) for number, found in enumerate(places) for place in found.tolist()]
        ranked = known[np.argsort(values[known], kind="stable")].tolist()

        def examples(ends: list[int]) -> list[Example]:
            return [self._example(*order[at], float(values[at])) for at in ends]

        return {
            "similarity": _spread(values[known]),
            "similarities": np.histogram(values[known], bins=40, range=(-1, 1))[0].tolist(),
            "worst": examples(ranked[:EXAMPLES]),
            "best": examples(ranked[::-1][:EXAMPLES]),
        }

    def _example(self, number: int, place: int, similarity: float) -> Example:
        index = self._indexes[number]
        sample = int(self._owners(number, np.array([place]))[0])
        return Example(index.record(sample).key, index.phrase_text(place)[:300], similarity)


def _spread(values: npt.NDArray[Any]) -> dict[str, float]:
    quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
    return {"mean": float(values.mean()), **dict(zip(QUANTILES, quantiles, strict=True))}
