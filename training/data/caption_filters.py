"""Leaves out captions by `data.captions.filters`, and counts them by reason.

A caption that is left out is as if it had never been said. A picture that keeps no caption and has no label, wider
class or tags is left out as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from training.config.captions import CaptionFilters
from training.data.index import SampleIndex
from training.data.languages import LanguageFilter, words_of
from training.data.phrases import CAPTION, DESCRIPTION, decode_phrase
from training.data.sample import SampleRecord
from training.progress import track, write_line

Mask = npt.NDArray[np.bool_]
Similarities = npt.NDArray[np.float32]

SUFFIX = r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|svg|raw|cr2|nef)"
FILE_NAME = re.compile(
    rf"\S+{SUFFIX}"  # whatever it is called
    rf"|(?:img|dsc[nf]?|pxl|gopr?|mvimg|p|photo|image|picture|pic|screenshot|untitled|scan)?[\s_-]*\(?\d[\d\s_().-]*(?:{SUFFIX})?"
    r"|(?:https?://|www\.)\S+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FilteredCaptions:
    """Which phrases of each index are kept, how many captions were left out by reason, and which samples are left."""

    kept: list[Mask]
    counts: Counter[str] = field(default_factory=Counter)
    usable: list[Mask] = field(default_factory=list)  # [samples] of each index

    @property
    def dropped(self) -> int:
        """How many samples lost all that was said of them."""
        return sum(int((~usable).sum()) for usable in self.usable)

    def without(self, index: SampleIndex, source: int, number: int, record: SampleRecord) -> SampleRecord:
        """The record of a sample of `index`, which is number `source`, without the captions that are left out."""
        first, captions = int(index.samples["phrase"][number]), record.annotation.captions  # captions come first
        kept = self.kept[source][first : first + len(captions)]
        left = {"captions": [text for text, stays in zip(captions, kept.tolist(), strict=True) if stays]}
        return replace(record, annotation=record.annotation.model_copy(update=left))

    def as_record(self) -> dict[str, Any]:
        """For the manifest."""
        return {"filtered_captions": dict(self.counts), "dropped_by_filters": self.dropped}

    def log_summary(self) -> None:
        """Say what was left out."""
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(self.counts.items()))
        write_line(
            f"captions left out: {self.counts.total():,}{f' ({reasons})' if reasons else ''}; "
            f"{self.dropped:,} pictures have nothing else and are left out with them"
        )


def filter_captions(
    config: CaptionFilters, indexes: Sequence[SampleIndex], similarities: Sequence[Similarities] | None
) -> FilteredCaptions:
    """Apply the filters to all captions.

    `similarities` [phrases] of each index are the cosines of captions and their images under a teacher, NaN where they
    are not known. Raises ConfigError for a language that is not known.
    """
    filtered = FilteredCaptions([np.ones(len(index.phrases), bool) for index in indexes])
    common = _common_captions(indexes, config.max_pictures)
    check = _check_of_texts(config)
    for number, index in enumerate(indexes):
        kept, buffer = filtered.kept[number], index.texts.data
        captions = np.flatnonzero(index.phrases["kind"] == CAPTION)
        is_common = np.isin(index.phrases["digest"][captions], common)
        low = _low(config, similarities[number][captions] if similarities else None, len(captions))
        starts, sizes = (index.phrases[name][captions].tolist() for name in ("start", "size"))
        rows = zip(captions.tolist(), starts, sizes, is_common.tolist(), low.tolist(), strict=True)
        for place, start, size, shared, dissimilar in track(rows, "filtering captions", len(captions)):
            reason = check(decode_phrase(buffer[start : start + size])) if check else None
            if reason is None and shared:
                reason = f"said of more than {config.max_pictures:,} pictures"
            if reason is None and dissimilar:
                reason = f"similarity below {config.min_similarity:g}"
            if reason is not None:
                kept[place] = False
                filtered.counts[reason] += 1
        filtered.usable.append(usable_samples(index, kept))
    return filtered


def _check_of_texts(config: CaptionFilters) -> Callable[[str], str | None] | None:
    """Gives why a text is left out, if it is by what it says."""
    languages = LanguageFilter(config.languages) if config.languages else None
    shortest, longest = config.min_words, config.max_words
    if not (languages or config.file_names or shortest or longest):
        return None

    def check(text: str) -> str | None:
        if config.file_names and is_file_name(text):
            return "the name of a file or an address"
        words = len(words_of(text)) if shortest or longest else 0
        if words < shortest:
            return f"fewer than {shortest} words"
        if longest and words > longest:
            return f"more than {longest} words"
        if languages and languages.is_other(text):
            return f"in another language than {', '.join(config.languages)}"
        return None

    return check


def is_file_name(text: str) -> bool:
    """Whether a caption is the name of a picture file, what a camera numbers, or an address: IMG_2034.jpg, DSC 0001."""
    return FILE_NAME.fullmatch(text.strip()) is not None


def pictures_of_captions(indexes: Sequence[SampleIndex]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The digests of all captions, each once, and of how many pictures each is said."""
    digests, owners, first = [], [], 0
    for index in indexes:
        owner = np.repeat(np.arange(len(index)) + first, index.samples["phrase_count"])
        captions = index.phrases["kind"] == CAPTION
        digests.append(index.phrases["digest"][captions])
        owners.append(owner[captions])
        first += len(index)
    digest, owner = np.concatenate(digests), np.concatenate(owners)
    order = np.lexsort((owner, digest))  # in other spellings a picture may have the same caption twice
    digest, owner = digest[order], owner[order]
    again = (digest[1:] == digest[:-1]) & (owner[1:] == owner[:-1])
    return np.unique(digest[np.append(True, ~again)] if len(digest) else digest, return_counts=True)


def _common_captions(indexes: Sequence[SampleIndex], most: int | None) -> npt.NDArray[np.int64]:
    """Digests of captions of more than `most` pictures."""
    if most is None:
        return np.zeros(0, np.int64)
    digests, counts = pictures_of_captions(indexes)
    return digests[counts > most]


def _low(config: CaptionFilters, similarities: Similarities | None, count: int) -> Mask:
    if config.min_similarity is None or similarities is None:
        return np.zeros(count, bool)
    low: Mask = similarities < config.min_similarity  # of NaN false
    return low


def usable_samples(index: SampleIndex, kept: Mask) -> Mask:
    """Which samples have a phrase among those `kept` that a text can be drawn from [samples]."""
    said = kept & (index.phrases["kind"] != DESCRIPTION)
    ends = np.concatenate([[0], np.cumsum(said)])
    first, count = index.samples["phrase"], index.samples["phrase_count"]
    usable: Mask = ends[first + count] > ends[first]
    return usable
