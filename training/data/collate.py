"""Collates the samples of a step: the distinct texts of their captions, and which texts are true of which images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.captions import Phrases, SampledCaption


@dataclass(frozen=True)
class Batch:
    """The images of a step, by number, and the distinct texts sampled for them or added to every batch.

    `positive[i, t]`: text t is true of image i. `ignored[i, t]`: it may be, so it is no negative either.
    """

    items: npt.NDArray[np.int64]  # [images] numbers in the training set
    texts: list[str]
    drawn: Tensor  # [images] which of the texts was sampled for each
    counts: Tensor  # [texts] how often each was sampled, 0 where it was only added
    positive: Tensor  # [images, texts] bool
    ignored: Tensor  # [images, texts] bool

    def without(self, missing: Tensor) -> Batch:
        """The batch where images that are `missing` [images] bool take no part; their texts stay as negatives."""
        counts = torch.bincount(self.drawn[~missing], minlength=len(self.texts))
        rows = missing.unsqueeze(1)
        return replace(self, counts=counts, positive=self.positive & ~rows, ignored=self.ignored | rows)


@dataclass(frozen=True)
class Images:
    """Decoded images of some items, stacked as `augment` takes them."""

    rgba: Tensor  # [items, side, side, 4] uint8, squeezed to a square
    aspects: Tensor  # [items] width / height before that
    transparent: Tensor  # [items] bool: a drawing without a background
    present: Tensor  # [items] bool: false where it could not be read, and the rest is made up


def collate(
    items: npt.NDArray[np.int64],
    phrases: Sequence[Phrases],
    sampled: Sequence[SampledCaption],
    added: Sequence[SampledCaption] = (),
) -> Batch:
    """The batch of `items`, by the phrases of each and the caption sampled for it, and texts `added` in any case."""
    distinct = {caption.text: caption for caption in (*sampled, *added)}
    column = {text: number for number, text in enumerate(distinct)}
    alone: dict[str, list[int]] = {}  # phrase: columns of the texts that hold it and no other
    among: dict[str, list[int]] = {}  # phrase: columns of the texts that hold others, too
    for text, caption in distinct.items():
        for phrase in caption.phrases:
            (alone if len(caption.phrases) == 1 else among).setdefault(phrase, []).append(column[text])
    rows = list(enumerate(phrases))
    shape = len(items), len(column)
    positive = _mask(shape, ((row, c) for row, known in rows for p in known.true for c in alone.get(p, ())))
    ignored = _mask(shape, ((row, c) for row, known in rows for p in known.possible for c in alone.get(p, ())))
    ignored |= _mask(
        shape, ((row, c) for row, known in rows for p in known.true | known.possible for c in among.get(p, ()))
    )
    own = torch.tensor([column[caption.text] for caption in sampled])
    positive[torch.arange(len(items)), own] = True
    counts = torch.bincount(own, minlength=len(column))
    return Batch(items, list(column), own, counts, positive, ignored & ~positive)


def _mask(shape: tuple[int, int], indices: Iterable[tuple[int, int]]) -> Tensor:
    """Bool [images, texts], true at `indices`."""
    mask = np.zeros(shape, bool)
    rows_columns = np.fromiter(chain.from_iterable(indices), np.int64).reshape(-1, 2)
    mask[rows_columns[:, 0], rows_columns[:, 1]] = True
    return torch.from_numpy(mask)
