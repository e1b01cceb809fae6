"""Settings that change nothing in this run, though they are valid: told at its start."""

from __future__ import annotations

from model.config import ModelConfig, ResNetConfig
from training.config import TrainConfig
from training.loop.loading import kept_patches
from training.loop.optimizer import average_decay


def without_effect(config: TrainConfig, model: ModelConfig, processes: int) -> list[str]:
    """A line for each, beginning with its field."""
    lines = []
    if config.parallel == "fsdp" and processes == 1:
        lines.append("parallel: fsdp divides nothing where there is one process; start several with torchrun")
    last = average_decay(1.0, config.steps - 1)
    if config.ema_decay > last:
        lines.append(
            f"ema_decay: {config.ema_decay:g} is not reached in {config.steps} steps; the average keeps less at first, "
            f"{last:.3f} at the end, and would with any value above that"
        )
    lines += [
        f"stages: the one at {stage.start:g} begins after the last of {config.steps} steps"
        for stage in config.stages
        if stage.start * config.steps > config.steps - 1
    ]
    lines += [
        f"patch_dropout: {config.patch_dropout:g} of {patches} patches is none of them"
        for patches in _patches(config, model)
        if kept_patches(patches, config.patch_dropout) == patches
    ]
    return lines


def _patches(config: TrainConfig, model: ModelConfig) -> list[int]:
    """How many a picture has in each stage, where some are to be dropped."""
    if not config.patch_dropout or isinstance(model.image, ResNetConfig):
        return []
    size = model.image.patch_size
    return [(stage.pixels // size) ** 2 for stage in config.stages]
