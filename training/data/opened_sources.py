"""All sources of a training set, opened: their indexes, which captions are left out, and which samples are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.config import Data
from training.config.captions import CaptionFilters
from training.data.caption_filters import FilteredCaptions, filter_captions
from training.data.caption_similarity import caption_similarities
from training.data.captions import load_synonyms
from training.data.image_reader import ImageReader
from training.data.index import index_cache, open_index
from training.data.split import load_excluded, mark_held_out, mark_included

Mask = npt.NDArray[np.bool_]


class OpenedSources:
    """What is known of the samples of all sources before an image is read, source by source."""

    def __init__(self, data: Data, base: Path) -> None:
        """Paths in `data` are relative to `base`. Raises ShardError and ConfigError."""
        self.synonyms = load_synonyms(base / data.synonyms if data.synonyms else None)
        self.reader = ImageReader()
        fields = data.captions.field_names
        self.indexes = [open_index(source, base, index_cache(data), fields) for source in data.train]
        self.filtered = self._filter(data, base)
        # Which sample an item is: its source, and its number in the index of that.
        self.sources = np.repeat(np.arange(len(self.indexes), dtype=np.int16), [len(index) for index in self.indexes])
        self.numbers = np.concatenate([np.arange(len(index)) for index in self.indexes])
        self.included: Mask = mark_included(self.indexes, load_excluded(base / data.exclude if data.exclude else None))
        if self.filtered:
            self.included &= np.concatenate(self.filtered.usable)
        self.held_out: Mask = mark_held_out(self.indexes, self.included, data.holdout)

    @property
    def kept_phrases(self) -> list[Mask] | None:
        """Which phrases of each index are not filtered out; None where all are kept."""
        return self.filtered.kept if self.filtered else None

    def _filter(self, data: Data, base: Path) -> FilteredCaptions | None:
        """The captions that are left out, where any are to be."""
        captions = data.captions
        if captions.filters == CaptionFilters():
            return None
        similarities = None
        if captions.teacher and captions.filters.min_similarity is not None:
            similarities = caption_similarities(self.indexes, captions.teacher, self.reader, base)
        filtered = filter_captions(captions.filters, self.indexes, similarities)
        filtered.log_summary()
        return filtered
