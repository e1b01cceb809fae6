"""Whether bfloat16 pays on this processor: measured, since support in name can mean emulation."""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import nn

REPEATS = 3


def choose_precision(wanted: Literal["auto", "fp32", "bf16"]) -> bool:
    """True for bfloat16 autocast; `auto` times one convolution, forward and backward, in both types."""
    if wanted != "auto":
        return wanted == "bf16"
    return _seconds(bf16=True) < 0.9 * _seconds(bf16=False)


def _seconds(bf16: bool) -> float:
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(pixels)
        out.float().sum().backward()
        best = min(best, time.perf_counter() - began)
    return best
