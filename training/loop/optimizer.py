"""AdamW with the paper's exclusions, its schedule, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
import re

import torch
from torch import nn

from model.network import Network
from training.config import Optimizer

# Blocks of a transformer, stages of a ResNet; what comes after the last of them.
_LAYER = re.compile(r"(?:resblocks\.|visual\.layer)(?P<layer>\d+)\.")
_TOP = re.compile(r"ln_post|ln_final|attnpool|\bproj$|text_projection|\.pool\.|head")


def build_optimizer(network: Network, config: Optimizer) -> torch.optim.AdamW:
    """Decay matrices and kernels; leave gains, biases, the class token and the logit scale (all below 2-D) alone.

    Each group holds its share of the learning rate as `factor`, by the layer that its parameters are in.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    depths = layer_depths(network)
    deepest = {tower: max(depth for of, depth in depths.values() if of == tower) for tower in dict(depths.values())}
    for name, parameter in network.named_parameters():
        tower, depth = depths[name]
        factor = config.layer_decay ** (deepest[tower] - depth)
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((decay, factor), []).append(parameter)
    found = [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]
    return torch.optim.AdamW(found, lr=config.learning_rate, betas=config.betas, eps=config.eps)


def layer_depths(network: Network) -> dict[str, tuple[str, int]]:
    """Of each parameter its tower (image, text, or none for logit scale and bias) and its layer, the embedding 0."""
    names = [name for name, _ in network.named_parameters()]
    layers = [_LAYER.search(name) for name in names]
    last = {"image": 0, "text": 0, "": 0}
    for name, layer in zip(names, layers, strict=True):
        if layer:
            last[_tower(name)] = max(last[_tower(name)], int(layer["layer"]))
    found = {}
    for name, layer in zip(names, layers, strict=True):
        tower = _tower(name)
        top = last[tower] + 2 if tower and _TOP.search(name) else 0
        found[name] = tower, int(layer["layer"]) + 1 if layer else top
    return found


def _tower(name: str) -> str:
    if name in ("logit_scale", "logit_bias"):
        return ""
    return "image" if name.startswith("visual.") else "text"


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


class MovingAverage:
    """Exponential moving average of parameters and buffers: what is evaluated and exported."""

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move towards `network`; faster at first, when an average of random weights would be worthless."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(new, 1 - decay)
            else:
                mine.copy_(new)
