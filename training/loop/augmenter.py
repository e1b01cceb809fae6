"""What the image tower is shown: stored images cropped and augmented on the device, and which patches are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import ResNetConfig
from model.network import Network
from training.config import TrainConfig
from training.data.augment import augment, augmenting_bytes
from training.loop.loader import MicroBatch

# Of augmentation at once: a CPU is fastest within its caches, a GPU where each operation has much to do.
WORK_BYTES = {"cpu": 2**24, "cuda": 2**30}


class Augmenter:
    """Random crops, colours and dropped patches, by the seeds of a micro-batch: the same for the same step."""

    def __init__(self, config: TrainConfig, network: Network, device: torch.device) -> None:
        self._config, self._device = config, device
        image = network.config.image
        self._patch_size = None if isinstance(image, ResNetConfig) else image.patch_size

    def augment(self, micro_batch: MicroBatch, step: int) -> Tensor:
        """Images [images, 3, side, side] from 0 to 1; the side is that of the step's stage."""
        side, rgba = self._config.pixels_at(step), micro_batch.images.rgba
        variation = micro_batch.variation.map(lambda drawn: drawn.to(self._device, non_blocking=True))
        parts = [
            augment(rgba[chunk].to(self._device, non_blocking=True), variation.of(chunk), side)
            for chunk in self._chunks(micro_batch, side)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _chunks(self, micro_batch: MicroBatch, side: int) -> list[slice]:
        """As many blocks at once as WORK_BYTES allow, one at least."""
        count, block = len(micro_batch.images.rgba), micro_batch.blocks[0].count  # only the last may be smaller
        images = WORK_BYTES[self._device.type] // augmenting_bytes(micro_batch.images.rgba.shape[1], side)
        size = max(1, images // block) * block
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def kept_patches(self, micro_batch: MicroBatch, step: int) -> Tensor | None:
        """Which patches of each image are looked at [images, kept], in order; None for all of them."""
        if not self._config.patch_dropout or self._patch_size is None:
            return None
        patches = (self._config.pixels_at(step) // self._patch_size) ** 2
        kept = kept_patch_count(patches, self._config.patch_dropout)
        drawn = []
        for block in micro_batch.blocks:
            generator = torch.Generator().manual_seed(block.seed + 1)
            drawn.append(torch.rand(block.count, patches, generator=generator))
        chosen = torch.cat(drawn).argsort(dim=1)[:, :kept].sort(dim=1).values
        return chosen.to(self._device)


def kept_patch_count(patches: int, dropout: float) -> int:
    """How many of an image's patches are looked at where a share of them is dropped: at least one."""
    return max(1, round(patches * (1 - dropout)))
