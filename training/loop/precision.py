"""The precision that the towers compute in: chosen by the device, and autocast.

On a CPU it is measured whether bfloat16 pays: support in name can mean emulation.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import nn

from training.config import ConfigError, Precision, TrainConfig
from training.loop.processes import Processes

REPEATS = 3
Network = TypeVar("Network", bound=nn.Module)
ComputePrecision = Literal["fp32", "tf32", "bf16", "fp16"]
DTYPE_NAMES: dict[ComputePrecision, str] = {
    "fp32": "float32",
    "tf32": "TensorFloat-32",
    "bf16": "bfloat16",
    "fp16": "float16",
}
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def channels_last(network: Network) -> Network:
    """Lay four-dimensional parameters out as convolutions are fastest with."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def choose_precision(setting: Precision, device: torch.device) -> ComputePrecision:
    """Resolve `auto`: bfloat16 where a GPU has it, or else float16; on a CPU a convolution is timed in both types.

    Raises ConfigError for what the device does not have.
    """
    if setting == "tf32" and device.type != "cuda":
        raise ConfigError("precision: tf32 is of CUDA devices; choose fp32 or bf16")
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _seconds("bf16") < 0.9 * _seconds("fp32") else "fp32"


def agree_on_precision(config: TrainConfig, earlier: ComputePrecision | None, processes: Processes) -> ComputePrecision:
    """The precision of a run: `earlier`, of its checkpoint, or else what the first process chooses.

    Raises ConfigError.
    """
    chosen = earlier or choose_precision(config.precision, processes.device)
    if chosen == "fp16" and config.parallel == "fsdp":  # by auto: the configuration refuses it by name
        raise ConfigError("precision: auto is fp16 here, which parallel: fsdp cannot scale: choose fp32, or ddp")
    kinds = list(DTYPE_NAMES)
    return kinds[processes.broadcast(kinds.index(chosen))]


def allow_tf32(chosen: ComputePrecision) -> None:
    """Let float32 products be rounded to TensorFloat-32 if, and only if, that is what was chosen.

    Torch's own default is to round those of convolutions and not those of matrices.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen == "tf32"


def autocast(chosen: ComputePrecision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, towers compute in that precision."""
    return torch.autocast(device.type, AUTOCAST_DTYPES.get(chosen, torch.bfloat16), enabled=chosen in AUTOCAST_DTYPES)


def _seconds(chosen: ComputePrecision) -> float:
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
