"""What the image tower is shown: stored images cropped and augmented on the device, and which patches are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import ResNetConfig
from model.network import Network
from training.config import TrainConfig
from training.data.augment import augment
from training.loop.loader import MicroBatch


class Augmenter:
    """Random crops, colours and dropped patches, by the seeds of a micro-batch: the same for the same step."""

    def __init__(self, config: TrainConfig, network: Network, device: torch.device) -> None:
        self._config, self._device = config, device
        image = network.config.image
        self._patch_size = None if isinstance(image, ResNetConfig) else image.patch_size

    def augment(self, micro_batch: MicroBatch, step: int) -> Tensor:
        """Images [images, 3, side, side] from 0 to 1; the side is that of the step's stage."""
        side = self._config.pixels_at(step)
        parts = []
        with self._device:  # what augmentation draws is drawn there, too
            for block in micro_batch.blocks:
                generator = torch.Generator(self._device).manual_seed(block.seed)
                images = block.images
                rgba, aspects, transparent = (
                    each.to(self._device, non_blocking=True)
                    for each in (images.rgba, images.aspects, images.transparent)
                )
                settings = self._config.min_crop, generator, self._config.augmentation
                parts.append(augment(rgba, aspects, transparent, side, *settings))
        return torch.cat(parts)

    def kept_patches(self, micro_batch: MicroBatch, step: int) -> Tensor | None:
        """Which patches of each image are looked at [images, kept], in order; None for all of them."""
        if not self._config.patch_dropout or self._patch_size is None:
            return None
        patches = (self._config.pixels_at(step) // self._patch_size) ** 2
        kept = kept_patch_count(patches, self._config.patch_dropout)
        drawn = []
        for block in micro_batch.blocks:
            generator = torch.Generator().manual_seed(block.seed + 1)
            drawn.append(torch.rand(len(block.images.rgba), patches, generator=generator))
        chosen = torch.cat(drawn).argsort(dim=1)[:, :kept].sort(dim=1).values
        return chosen.to(self._device)


def kept_patch_count(patches: int, dropout: float) -> int:
    """How many of an image's patches are looked at where a share of them is dropped: at least one."""
    return max(1, round(patches * (1 - dropout)))
