"""AdamW with the paper's exclusions, its schedule, and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from model.network import CLIP
from training.config import Optimizer


def build_optimizer(network: nn.Module, config: Optimizer) -> torch.optim.AdamW:
    """Decay matrices and kernels; leave gains, biases, the class token and the logit scale (all below 2-D) alone."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    kept = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps)


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


class MovingAverage:
    """Exponential moving average of parameters and buffers: what is evaluated and exported."""

    def __init__(self, network: CLIP, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: CLIP, step: int) -> None:
        """Move towards `network`; faster at first, when an average of random weights would be worthless."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)
