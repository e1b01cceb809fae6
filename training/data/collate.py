"""Collates the samples of a step: the distinct texts of their captions, and which texts are true of which images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.matches import Matches, Pairs
from training.data.transfer import send

Indices = npt.NDArray[np.int64]


class Masks(NamedTuple):
    """`positive[i, t]`: text t is true of image i. `ignored[i, t]`: it may be, so it is no negative either."""

    positive: Tensor  # bool
    ignored: Tensor  # bool, false where `positive` is true


@dataclass(frozen=True)
class Media:
    """Texts are no negatives of images of a medium that they were neither sampled nor added for."""

    of_images: Tensor  # [images] int64
    used: Tensor  # [media, texts] bool


@dataclass(frozen=True)
class Batch:
    """The images of a step, by number, and the distinct texts sampled for them or added to every batch.

    Which texts are true of which images is made dense on the batch's device for the rows or columns that are asked for.
    """

    items: Indices  # [images] numbers in the training set
    texts: list[str]
    drawn: Tensor  # [images] which of the texts was sampled for each
    counts: Tensor  # [texts] how often each was sampled, 0 where it was only added
    matches: Matches
    media: Media | None = None  # where there are several
    vector_rows: Indices | None = None  # [images] the row of each drawn caption among the image's stored vectors
    missing: Tensor | None = None  # [images] bool: those that take no part; None where all do

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on `device`, copied while what was begun there goes on."""
        media = self.media and Media(send(self.media.of_images, device), send(self.media.used, device))
        return replace(self, drawn=send(self.drawn, device), counts=send(self.counts, device), media=media)

    def without(self, missing: Tensor) -> Batch:
        """The batch where images that are `missing` [images] bool take no part; their texts stay as negatives."""
        counts = torch.bincount(self.drawn[~missing], minlength=len(self.texts))
        return replace(self, counts=counts, missing=missing)

    @property
    def present(self) -> Tensor:
        """Which images take part [images] bool: those with a positive text."""
        return torch.ones_like(self.drawn, dtype=torch.bool) if self.missing is None else ~self.missing

    def row_masks(self, images: slice) -> Masks:
        """Of some of the images and all texts [images, texts]."""
        count = len(range(*images.indices(len(self.items))))
        positive, ignored = self._scatter(self.matches.of_images(images), count, len(self.texts))
        if self.media is not None:
            ignored |= ~self.media.used[self.media.of_images[images]]
        if self.missing is not None:
            positive &= ~self.missing[images].unsqueeze(1)
            ignored |= self.missing[images].unsqueeze(1)
        return Masks(positive, ignored & ~positive)

    def column_masks(self, texts: slice) -> Masks:
        """Of some of the texts and all images, turned: [texts, images]."""
        count = len(range(*texts.indices(len(self.texts))))
        positive, ignored = self._scatter(self.matches.of_texts(texts), count, len(self.items))
        if self.media is not None:
            ignored |= ~self.media.used.T[texts][:, self.media.of_images]
        if self.missing is not None:
            positive &= ~self.missing
            ignored |= self.missing
        return Masks(positive, ignored & ~positive)

    @property
    def positive(self) -> Tensor:
        """Of all images and texts [images, texts]: for batches that are small."""
        return self.row_masks(slice(None)).positive

    @property
    def ignored(self) -> Tensor:
        """Of all images and texts [images, texts]: for batches that are small."""
        return self.row_masks(slice(None)).ignored

    def _scatter(self, pairs: Pairs, *shape: int) -> tuple[Tensor, Tensor]:
        """Dense masks of that shape."""
        return _mask(pairs.positive, shape, self.drawn.device), _mask(pairs.ignored, shape, self.drawn.device)


@dataclass(frozen=True)
class Images:
    """Decoded images of some items, stacked as `augment` takes them."""

    rgba: Tensor  # [items, side, side, 4] uint8, squeezed to a square
    aspects: Tensor  # [items] width / height before that
    transparent: Tensor  # [items] bool: a drawing without a background
    present: Tensor  # [items] bool: false where it could not be read, and the rest is made up


def _mask(places: Indices, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Bool of that shape, true at `places` of it flattened; filled where a GPU need not be asked how many they are."""
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask.view(-1).index_fill_(0, send(torch.from_numpy(places), device), True)
    return mask
