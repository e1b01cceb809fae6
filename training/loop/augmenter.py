"""What the image tower is shown: stored images, cropped and augmented on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from training.config import TrainConfig
from training.data.augment import augment, augmenting_bytes
from training.loop.loader import MicroBatch

# Of augmentation at once: a CPU is fastest within its caches, a GPU where each operation has much to do.
WORK_BYTES = {"cpu": 2**24, "cuda": 2**30}


class Augmenter:
    """Random crops and colours, by the seeds of a micro-batch: the same for the same step."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self._config, self._device = config, device

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
