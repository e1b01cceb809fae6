"""AdamW with the paper's exclusions, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from model.network import Network
from model.network.pretrained_text import frozen_names
from training.config import Optimizer
from training.loop.processes import Processes

# Blocks of a transformer, stages of a ResNet; what comes after the last of them.
_LAYER = re.compile(r"(?:resblocks\.|visual\.layer)(?P<layer>\d+)\.")
TOKENS = "mixture_tokens"  # a matrix in form, of tokens that stand where the class token does
_TOP = re.compile(r"ln_post|ln_final|attnpool|\bproj$|text_projection|\.pool\.|head")


def build_optimizer(network: Network, config: Optimizer) -> torch.optim.AdamW:
    """Decay matrices and kernels; leave gains, biases, the class token, those beside it and the logit scale alone.

    Each group holds its share of the learning rate as `factor`, by the layer that its parameters are in. Parameters
    that processes share are in groups of their own.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    depths = layer_depths(network)
    deepest = {tower: max(depth for of, depth in depths.values() if of == tower) for tower in dict(depths.values())}
    for name, parameter in network.named_parameters():
        tower, depth = depths[name]
        factor = config.layer_decay ** (deepest[tower] - depth)
        decay = config.weight_decay if parameter.dim() > 1 and not name.endswith(TOKENS) else 0.0
        groups.setdefault((decay, factor, isinstance(parameter, DTensor)), []).append(parameter)
    param_groups = [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor, _), parameters in sorted(groups.items(), key=lambda group: group[0], reverse=True)
    ]
    return torch.optim.AdamW(param_groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def layer_depths(network: Network) -> dict[str, tuple[str, int]]:
    """Of each parameter its tower (image, text, or none for those of the loss) and its layer, the embedding 0."""
    names = [name for name, _ in network.named_parameters()]
    layers = [_LAYER.search(name) for name in names]
    last = {"image": 0, "text": 0, "": 0}
    for name, layer in zip(names, layers, strict=True):
        if layer:
            last[_tower(name)] = max(last[_tower(name)], int(layer["layer"]))
    depths = {}
    for name, layer in zip(names, layers, strict=True):
        tower = _tower(name)
        top = last[tower] + 2 if tower and _TOP.search(name) else 0
        depths[name] = tower, int(layer["layer"]) + 1 if layer else top
    return depths


def _tower(name: str) -> str:
    if name in ("logit_scale", "logit_bias") or name.startswith("mixture."):
        return ""
    return "image" if name.startswith("visual.") else "text"


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def clip_gradients(network: Network, max_norm: float | None, processes: Processes) -> Tensor:
    """Scale all gradients down, in place, where their norm over all processes is above `max_norm`; None: never.

    Returns the norm before that. Gradients must not be scaled for float16 any more.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    sharded = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    replicated = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norm = nn.utils.get_total_norm(replicated)
    if sharded:
        norm = (processes.total(nn.utils.get_total_norm(sharded).square()) + norm.square()).sqrt()
    if max_norm is None:
        return norm
    # torch's clip_grads_with_norm_ takes parameters, and DTensors only without others: given gradients it does nothing.
    factor = (max_norm / norm).clamp(max=1)
    for part in sharded + replicated:
        part.mul_(factor)
    return norm


def average_decay(decay: float, step: int) -> float:
    """The decay of the average at `step`: less at first, when an average of random weights would be worthless."""
    return min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """Exponential moving average of parameters and buffers: what is evaluated and exported.

    `state` is a state dict like the network's, with DTensors where that has them. What is frozen for good is in both.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay, self._frozen = decay, frozen_names(network)
        self.state = {
            name: tensor.detach() if name in self._frozen else tensor.detach().clone()
            for name, tensor in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move the average towards the weights of `network`, by `average_decay`."""
        decay = average_decay(self.decay, step)
        for (name, average), weights in zip(self.state.items(), network.state_dict().values(), strict=True):
            if name in self._frozen:
                continue
            if average.dtype.is_floating_point:
                local_tensor(average).lerp_(local_tensor(weights), 1 - decay)
            else:
                average.copy_(weights)


def local_tensor(tensor: Tensor) -> Tensor:
    """The shard of a DTensor that this process holds; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
