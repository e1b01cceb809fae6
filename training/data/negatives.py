"""Which texts compete in a batch where sources say more of it: `all_labels` adds texts, `medium` spares pairs.

Both are of sets that mix labels and media, as the recipe of the bundled checkpoint does; elsewhere nothing changes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from training.config import Source
from training.data.captions import CaptionSampler, SampledCaption
from training.data.collate import Media
from training.data.index import SampleIndex
from training.data.item_categories import Ragged
from training.data.phrases import phrase_digest

Worded = dict[int, SampledCaption]  # by the digest of a label

log = logging.getLogger(__name__)


class Negatives:
    """The labels of all sources with `all_labels`, and the medium of each source."""

    def __init__(
        self,
        sources: Sequence[Source],
        indexes: Sequence[SampleIndex],
        source_of: npt.NDArray[np.int16],
        numbers: npt.NDArray[np.int64],
    ) -> None:
        """`source_of` [items] is the source of each item, `numbers` [items] its number in the index of that."""
        self._source_of = source_of
        media, self._media = np.unique([source.medium for source in sources], return_inverse=True)
        self._labels = self._find_labels(sources, indexes, numbers)  # each with its medium and digest
        self._one_medium = len(media) == 1

    def word_labels(self, captions: CaptionSampler, rng: random.Random) -> Worded:
        """The captions that are added to a batch: each label, by its digest, in the one wording that it has there."""
        return captions.word_labels([(label, digest) for label, _, digest in self._labels], rng)

    def media(
        self, items: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], columns: Mapping[str, int], worded: Worded
    ) -> Media | None:
        """Which texts were sampled or added for images of each medium; None where there is one medium.

        `drawn` [images] is the text sampled for each of `items`, `columns` the number of each text.
        """
        if self._one_medium:
            return None
        media = self._media[self._source_of[items]]
        used = np.zeros((int(self._media.max()) + 1, len(columns)), bool)
        used[media, drawn] = True
        for _, medium, digest in self._labels:
            used[medium, columns[worded[digest][0]]] = True
        return Media(torch.from_numpy(media), torch.from_numpy(used))

    def media_of_categories(self, of_items: Ragged, count: int) -> Media | None:
        """The medium of every item, and which of `count` categories any item of each has; None where there is one."""
        if self._one_medium:
            return None
        used = np.zeros((int(self._media.max()) + 1, count), bool)
        used[np.repeat(self._media[self._source_of], of_items.counts), of_items.values] = True
        return Media(torch.from_numpy(self._media[self._source_of]), torch.from_numpy(used))

    def _find_labels(
        self, sources: Sequence[Source], indexes: Sequence[SampleIndex], numbers: npt.NDArray[np.int64]
    ) -> list[tuple[str, int, int]]:
        found = set()
        for number, (source, index) in enumerate(zip(sources, indexes, strict=True)):
            if source.all_labels:
                mine = numbers[self._source_of == number]
                _, firsts = np.unique(index.samples["label"][mine], return_index=True)
                labels = {index.annotation(int(first)).label for first in mine[firsts]}
                if not any(labels):
                    log.warning("data.train.%d.all_labels asks for nothing: no picture there has a label", number)
                found |= {(label, int(self._media[number])) for label in labels if label}
        return [(label, medium, phrase_digest(label)) for label, medium in sorted(found)]
