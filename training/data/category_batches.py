"""Batches whose texts are all categories of a vocabulary, each true of the images that have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from training.data.collate import Batch
from training.data.item_categories import ItemCategories
from training.data.matches import match_numbers
from training.data.negatives import Negatives

Indices = npt.NDArray[np.int64]


class CategoryBatches:
    """Batches of the items of a training set, each of which has a category."""

    def __init__(self, categories: ItemCategories, samples: Indices, negatives: Negatives) -> None:
        """`samples` [items] says which sample of all sources each item is."""
        self._texts = categories.texts
        self._of_items = categories.of_samples.take(samples)
        self._media = negatives.media_of_categories(self._of_items, len(self._texts))

    def batch(self, items: Indices) -> Batch:
        """The batch of some items: what counts as the text sampled for each is its most frequent category."""
        mine = self._of_items.take(items)
        drawn = mine.values[mine.starts[:-1]]
        shape = len(items), len(self._texts)
        media = self._media and replace(self._media, of_images=self._media.of_images[items])
        return Batch(
            items,
            self._texts,
            torch.from_numpy(drawn),
            torch.from_numpy(np.bincount(drawn, minlength=shape[1])),
            match_numbers(np.repeat(np.arange(shape[0]), mine.counts), mine.values, shape),
            media,
        )
