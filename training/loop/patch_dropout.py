"""Patch dropout: of each image of a step, which of its patches a vision transformer looks at (Li et al. 2023, FLIP)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.config import ModelConfig, ResNetConfig
from training.config import TrainConfig
from training.data.variation import Block


class PatchDropout:
    """Draws on the CPU, so that patches are the same on every device, and in the loader's thread."""

    def __init__(self, share: float, patch_size: int) -> None:
        """`share` of the patches is dropped, `patch_size` is their side in pixels."""
        self._share, self._patch_size = share, patch_size

    @classmethod
    def of(cls, config: TrainConfig, model: ModelConfig) -> PatchDropout | None:
        """What a run drops of the images of its network; None where that is nothing, or they have no patches."""
        if not config.patch_dropout or isinstance(model.image, ResNetConfig):
            return None
        return cls(config.patch_dropout, model.image.patch_size)

    def draw(self, blocks: Sequence[Block], pixels: int) -> Tensor:
        """The patches to look at [images, kept], in order, of the images of `blocks`."""
        patches = (pixels // self._patch_size) ** 2
        drawn = [
            torch.rand(block.count, patches, generator=torch.Generator().manual_seed(block.seed + 1))
            for block in blocks
        ]
        kept = kept_patch_count(patches, self._share)
        return torch.cat(drawn).argsort(dim=1)[:, :kept].sort(dim=1).values


def kept_patch_count(patches: int, dropout: float) -> int:
    """How many of an image's patches are looked at where a share of them is dropped: at least one."""
    return max(1, round(patches * (1 - dropout)))
