"""Which texts compete in a batch where sources say more of it: `all_labels` adds texts, `medium` spares pairs.

Both are of sets that mix labels and media, as the recipe of the bundled checkpoint does; elsewhere nothing changes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from training.config import Source
from training.data.captions import CaptionSampler, SampledCaption
from training.data.collate import Batch
from training.data.index import SampleIndex

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
        self._labels = self._find_labels(sources, indexes, numbers)  # each with its medium
        self._one_medium = len(media) == 1

    def word_labels(self, captions: CaptionSampler, rng: random.Random) -> dict[str, SampledCaption]:
        """The captions that are added to a batch: each label, in lower case, in the one wording that it has there."""
        return captions.word_labels([label for label, _ in self._labels], rng)

    def ignore_across_media(self, batch: Batch, worded: dict[str, SampledCaption]) -> Batch:
        """The batch where a text is no negative of images of another medium than it was sampled or added for.

        Were it one, a word known from drawings alone would be pushed away from every photograph, those of what it
        names among them.
        """
        if self._one_medium:
            return batch
        media = torch.from_numpy(self._media[self._source_of[batch.items]])
        column = {text: number for number, text in enumerate(batch.texts)}
        used = torch.zeros(int(self._media.max()) + 1, len(column), dtype=torch.bool)  # [media, texts]
        used[media, batch.drawn] = True
        for label, medium in self._labels:
            used[medium, column[worded[label.lower()].text]] = True
        return replace(batch, ignored=batch.ignored | (~used[media] & ~batch.positive))

    def _find_labels(
        self, sources: Sequence[Source], indexes: Sequence[SampleIndex], numbers: npt.NDArray[np.int64]
    ) -> list[tuple[str, int]]:
        found = set()
        for number, (source, index) in enumerate(zip(sources, indexes, strict=True)):
            if source.all_labels:
                mine = numbers[self._source_of == number]
                _, firsts = np.unique(index.samples["label"][mine], return_index=True)
                labels = {index.annotation(int(first)).label for first in mine[firsts]}
                if not any(labels):
                    log.warning("data.train.%d.all_labels asks for nothing: no picture there has a label", number)
                found |= {(label, int(self._media[number])) for label in labels if label}
        return sorted(found)
