"""Whether bfloat16 pays on this processor: measured, since support in name can mean emulation."""

from __future__ import annotations

import time
from typing import Literal, TypeVar

import torch
from torch import nn

REPEATS = 3
Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """Lay four-dimensional parameters out as the convolutions of a CPU want them."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def choose_precision(wanted: Literal["auto", "fp32", "bf16"]) -> bool:
    """True for bfloat16 autocast; `auto` times one convolution, forward and backward, in both types."""
    if wanted != "auto":
        return wanted == "bf16"
    return _seconds(bf16=True) < 0.9 * _seconds(bf16=False)


def _seconds(bf16: bool) -> float:
    layer = channels_last(nn.Conv2d(64, 64, 3, padding=1))
    pixels = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(pixels)
        torch.autograd.backward(out.float().sum())
        best = min(best, time.perf_counter() - began)
    return best
