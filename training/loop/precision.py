"""The arithmetic of a run. On a CPU it is measured whether bfloat16 pays: support in name can mean emulation."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import nn

from training.config import ConfigError, Precision

REPEATS = 3
Network = TypeVar("Network", bound=nn.Module)
Chosen = Literal["fp32", "tf32", "bf16", "fp16"]
NAMES: dict[Chosen, str] = {"fp32": "float32", "tf32": "TensorFloat-32", "bf16": "bfloat16", "fp16": "float16"}
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def channels_last(network: Network) -> Network:
    """Lay four-dimensional parameters out as convolutions want them."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def choose_precision(wanted: Precision, device: torch.device) -> Chosen:
    """What `auto` is: bfloat16 where a GPU has it, or else float16; on a CPU a convolution is timed in both types.

    Raises ConfigError for what the device does not have.
    """
    if wanted == "tf32" and device.type != "cuda":
        raise ConfigError("precision: tf32 is of CUDA devices; choose fp32 or bf16")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _seconds("bf16") < 0.9 * _seconds("fp32") else "fp32"


def allow_tf32(chosen: Chosen) -> None:
    """Let float32 products be rounded to TensorFloat-32 if, and only if, that is what was chosen.

    Torch's own default is to round those of convolutions and not those of matrices.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen == "tf32"


def autocast(chosen: Chosen, device: torch.device) -> AbstractContextManager[object]:
    """Within, towers compute in it."""
    return torch.autocast(device.type, TYPES.get(chosen, torch.bfloat16), enabled=chosen in TYPES)


def _seconds(chosen: Chosen) -> float:
    layer = channels_last(nn.Conv2d(64, 64, 3, padding=1))
    pixels = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        with autocast(chosen, pixels.device):
            out = layer(pixels)
        torch.autograd.backward(out.float().sum())
        best = min(best, time.perf_counter() - began)
    return best
