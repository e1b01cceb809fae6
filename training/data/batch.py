"""What a step learns from: the pictures and the texts that are said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Pictures of a step and the distinct texts said of them, or asked for in any case.

    `positive[i, t]`: text t is true of picture i. `ignored[i, t]`: it may be, so it is no negative either.
    """

    items: npt.NDArray[np.int64]  # [pictures]
    texts: list[str]
    drawn: Tensor  # [pictures] which of the texts was drawn for each
    counts: Tensor  # [texts] how often each was drawn, 0 where it was only asked for
    positive: Tensor  # [pictures, texts] bool
    ignored: Tensor  # [pictures, texts] bool

    def without(self, missing: Tensor) -> Batch:
        """The batch where pictures that are `missing` [pictures] bool take no part; their texts stay as negatives."""
        counts = torch.bincount(self.drawn[~missing], minlength=len(self.texts))
        rows = missing.unsqueeze(1)
        return replace(self, counts=counts, positive=self.positive & ~rows, ignored=self.ignored | rows)


@dataclass(frozen=True)
class Pictures:
    """Pictures of some items, as `augment` takes them."""

    rgba: Tensor  # [items, side, side, 4] uint8, squeezed to a square
    aspects: Tensor  # [items] width / height before that
    transparent: Tensor  # [items] bool: a drawing without a background
    present: Tensor  # [items] bool: false where it could not be read, and the rest is made up
