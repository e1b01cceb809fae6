"""From which source the caption of an image is drawn: weights that may change while a run goes on.

Captions are from fields of a record or columns of a table; `data.captions.sources` groups these into sources such as
human and synthetic, and `data.captions.mix` weighs the sources. Nguyen et al. 2023 (arXiv 2307.10350) mix raw and
synthetic captions by such shares, Fan et al. 2023 (LaCLIP, arXiv 2305.20088) draw one of several evenly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.config import Captions
from training.data.caption_filters import usable_samples
from training.data.index import SampleIndex
from training.data.phrases import CAPTION, MAX_FIELDS

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class CaptionMix:
    """The sources of captions and their weights. Fields that no source names are one more source, which weighs 0."""

    def __init__(self, config: Captions) -> None:
        self.names = list(config.sources)
        self._source_of = {field: number for number, names in enumerate(config.sources.values()) for field in names}
        self._ramps = [config.mix.get(name, (0.0, 0.0)) for name in self.names]

    def source_numbers(self, indexes: Sequence[SampleIndex]) -> Numbers:
        """The source of each field of each index by their numbers [indexes, fields]."""
        numbers = np.full((len(indexes), MAX_FIELDS), len(self.names), np.int64)
        for row, index in zip(numbers, indexes, strict=True):
            for place, field in enumerate(index.fields):
                row[place] = self._source_of.get(field, len(self.names))
        return numbers

    def weights(self, progress: float) -> list[float]:
        """The weight of each source where the share `progress` of all steps is done."""
        return [first + (last - first) * progress for first, last in self._ramps] + [0.0]

    @property
    def drawn(self) -> list[bool]:
        """Whether each source has a weight at any time."""
        return [ramp != (0, 0) for ramp in self._ramps] + [False]

    def drawn_phrases(self, index: SampleIndex, numbers: Numbers) -> Mask:
        """Which phrases of an index are drawn at any time: all but captions of other sources.

        `numbers` is the index's row of `source_numbers`.
        """
        drawn: Mask = np.array(self.drawn)[numbers[index.phrases["field"]]] | (index.phrases["kind"] != CAPTION)
        return drawn

    def usable(self, indexes: Sequence[SampleIndex], kept: Sequence[Mask] | None) -> Mask:
        """Which samples of all indexes have something to say that is drawn at some time [samples].

        `kept` says of all phrases of each index which are not filtered out; None where all are kept.
        """
        found = []
        for number, (index, numbers) in enumerate(zip(indexes, self.source_numbers(indexes), strict=True)):
            drawn = self.drawn_phrases(index, numbers)
            found.append(usable_samples(index, drawn if kept is None else drawn & kept[number]))
        return np.concatenate(found)

    def never_drawn(self, indexes: Sequence[SampleIndex]) -> dict[str, int]:
        """How many captions are of each field whose source never has a weight."""
        counts: dict[str, int] = {}
        for index in indexes:
            fields = np.bincount(index.phrases["field"][index.phrases["kind"] == CAPTION], minlength=len(index.fields))
            for field, count in zip(index.fields, fields.tolist(), strict=True):
                number = self._source_of.get(field)
                if count and (number is None or self._ramps[number] == (0, 0)):
                    counts[field] = counts.get(field, 0) + count
        return counts


def choose_caption(sources: Sequence[int], weights: Sequence[float], drawn: Sequence[bool], rng: random.Random) -> int:
    """The place of one of an image's captions: a source by weight among those that it has, then any of that source.

    `sources` are those of the captions. Where all of them weigh nothing now, any caption of those that are `drawn` at
    another time, of which there must be one.
    """
    present = sorted(set(sources))
    shares = [weights[source] for source in present]
    if not any(shares):
        return rng.choice([place for place, source in enumerate(sources) if drawn[source]])
    chosen = rng.choices(present, shares)[0]
    return rng.choice([place for place, source in enumerate(sources) if source == chosen])
