"""The cost profile of a network, measured with a few samples: operations, seconds and bytes of activations of one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.network import Network, PretrainedText
from model.network.gradient_checkpointing import CheckpointedModule, set_grad_checkpointing
from training.loop.precision import ComputePrecision, autocast

SAMPLES = 8
REPEATS = 3
TEXT_TOKENS = 16  # of a caption of about ten words


@dataclass(frozen=True)
class Cost:
    """Of one sample: operations of the forward pass, seconds of both passes, bytes of activations kept between them."""

    operations: int
    seconds: float
    activation_bytes: int


class CostProfiler:
    """Runs samples of one size through a network and measures them."""

    def __init__(self, network: Network, side: int, precision: ComputePrecision, dropped: float) -> None:
        """`dropped` is the share of patches that are not looked at."""
        self._network, self._precision = network, precision
        self._device = network.logit_scale.device
        with self._device:
            self._pixels = torch.zeros(SAMPLES, 3, side, side).contiguous(memory_format=torch.channels_last)
            length = min(TEXT_TOKENS, network.config.text.context_length)
            token = 1 if network.config.text.pad_id != 1 else 2
            self._ids = torch.full((SAMPLES, length), token, dtype=torch.int64)
            patches = (side // getattr(network.config.image, "patch_size", side)) ** 2
            kept = torch.arange(max(1, round(patches * (1 - dropped))))
            self._kept = kept.expand(SAMPLES, -1) if dropped else None

    def profile(self, recompute: bool) -> Cost:
        """Measure; with `recompute` as gradient checkpointing does it."""
        set_grad_checkpointing(self._network, False)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self._forward()
        kept = self._activation_bytes()  # this one also allocates
        if recompute:
            set_grad_checkpointing(self._network, True)
            # Beside what is kept between blocks, those of the block that is being computed again.
            kept = self._activation_bytes() + kept // max(1, self._block_count())
        seconds = min(self._measure_seconds() for _ in range(REPEATS))  # the passes above have warmed up
        self._network.zero_grad()
        return Cost(counter.get_total_flops() // SAMPLES, seconds / SAMPLES, kept // SAMPLES)

    def _activation_bytes(self) -> int:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, _identity):
            self._forward_backward()
        own = {parameter.untyped_storage().data_ptr() for parameter in self._network.parameters()}
        return sum(size for address, size in kept.items() if address not in own)

    def _measure_seconds(self) -> float:
        began = time.perf_counter()
        self._forward_backward()
        return time.perf_counter() - began

    def _forward_backward(self) -> None:
        out = self._forward()
        if out.requires_grad:
            torch.autograd.backward(out)
        float(out.detach())  # waits for a GPU

    def _forward(self) -> Tensor:
        with autocast(self._precision, self._device):
            image, text = self._network.encode_image(self._pixels, self._kept), self._encode_text()
        return image.float().sum() + text.float().sum()

    def _encode_text(self) -> Tensor:
        """Without what a frozen language model makes of a text, which is computed once in a run."""
        tower = getattr(self._network, "text", None)
        if not isinstance(tower, PretrainedText):
            return self._network.encode_text(self._ids)
        with torch.device(self._device):
            tokens = self._ids.shape[1] if tower.alignment is not None else 1
            return tower.align(torch.zeros(SAMPLES, tokens, tower.config.width), self._ids)

    def _block_count(self) -> int:
        """Of the tower with the most: transformer blocks, or the four stages of a ResNet."""
        towers = [module for module in self._network.modules() if isinstance(module, CheckpointedModule)]
        return max(len(getattr(tower, "resblocks", range(4))) for tower in towers)


def _identity(tensor: Any) -> Any:
    return tensor
