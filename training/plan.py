"""What a run would need, before it begins: told by `train --dry-run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.network import Network
from training.config import Stage, TrainConfig
from training.data.index import index_cache, open_index
from training.data.training_set import refuse_tests_in_training
from training.loop.precision import channels_last, choose_precision
from training.loop.starting import begin

PROBE = 8  # pictures and texts that one forward and backward pass is measured with
TEXT_TOKENS = 16  # of a caption of about ten words
COPIES = 5  # of the weights: themselves, gradients, two moments of AdamW, the moving average
AHEAD = 2  # batches of decoded pictures where they are not all in memory: this step's and the next one's
BACKWARD = 3  # a step is about three forward passes (Kaplan et al. 2020, section 2.1)


def plan(config: TrainConfig, base: Path) -> str:
    """Parameters, work, memory and time of a run. Raises what the run would at its start."""
    network = channels_last(begin(config).network).train()
    bf16 = choose_precision(config.precision, torch.device("cpu")) == "bf16"
    refuse_tests_in_training(config.data, base)
    indexes = [open_index(source, base, index_cache(config.data)) for source in config.data.train]
    samples = sum(map(len, indexes))
    size, everything = config.batch_size, _parameters(network)
    lines = [
        f"{config.name}: {config.steps:,} steps of {size:,} = {config.steps * size:,} samples",
        f"  from {config.start or config.model}; {samples:,} pictures, {config.data.holdout:.0%} of them held out",
        f"  parameters: {everything:,}, {_parameters(network.visual):,} of them in the picture tower",
    ]
    seconds, activations = 0.0, 0
    for stage, steps in _stages(config):
        operations, took_s, held = _measure(network, stage.pixels, bf16)
        seconds += took_s * size * steps
        activations = max(activations, held * size)
        work = BACKWARD * operations * size / 1e12
        lines.append(f"  {steps:,} steps at {stage.pixels} pixels: {work:.2f} TFLOP and {took_s * size:.1f} s each")
    pictures = samples if config.data.pictures == "memory" else AHEAD * size
    store = pictures * 4 * config.data.store_pixels**2 + sum(index.nbytes for index in indexes)
    weights = COPIES * 4 * everything
    parts = {"weights, gradients, moments, average": weights, "activations": activations, "pictures": store}
    told = ", ".join(f"{name} {part / 2**30:.2f}" for name, part in parts.items())
    kind = "bfloat16" if bf16 else "float32"
    return "\n".join(
        [
            *lines,
            f"  memory: {sum(parts.values()) / 2**30:.1f} GiB ({told}), and about 0.5 for the program",
            f"  time: {_told(seconds)} in {kind} on this machine, by one pass of {PROBE} samples, plus evaluations",
        ]
    )


def _stages(config: TrainConfig) -> list[tuple[Stage, int]]:
    """Each stage and how many steps it has."""
    ends = [stage.start for stage in config.stages[1:]] + [1.0]
    return [(stage, round((end - stage.start) * config.steps)) for stage, end in zip(config.stages, ends, strict=True)]


def _measure(network: Network, side: int, bf16: bool) -> tuple[int, float, int]:
    """Of one sample: forward operations, seconds of a training pass, bytes that the forward pass keeps for it."""
    pixels = torch.zeros(PROBE, 3, side, side).contiguous(memory_format=torch.channels_last)
    ids = torch.ones(PROBE, min(TEXT_TOKENS, network.config.text.context_length), dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _forward(network, pixels, ids, bf16)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
        torch.autograd.backward(_forward(network, pixels, ids, bf16))  # this one also allocates
    began = time.perf_counter()
    torch.autograd.backward(_forward(network, pixels, ids, bf16))
    took_s = time.perf_counter() - began
    network.zero_grad()
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    held = sum(size for address, size in kept.items() if address not in own)
    return counter.get_total_flops() // PROBE, took_s / PROBE, held // PROBE


def _forward(network: Network, pixels: Tensor, ids: Tensor, bf16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return network.encode_image(pixels).sum() + network.encode_text(ids).sum()


def _as_it_is(tensor: Any) -> Any:
    return tensor


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _told(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"
