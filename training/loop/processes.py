"""The processes of a run, as torchrun starts them, the device of each, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from training.config import ConfigError
from training.progress import console

# The others wait while the first process evaluates and saves; one that died silently is noticed after this time.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process among `count`; the first one, `rank` 0, alone writes files, prints and evaluates."""

    rank: int
    count: int
    device: torch.device
    met: bool  # whether it met the others here, and not before

    @classmethod
    def join(cls, wanted: Literal["auto", "cpu", "cuda"]) -> Processes:
        """Meet the other processes, if torchrun started any. Raises ConfigError for a device that is not there."""
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        device = device_of(wanted)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # Crops change size at a stage only, so that timing the kernels once pays.
            torch.backends.cudnn.benchmark = True
        meets = count > 1 and not dist.is_initialized()
        if meets:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        console.quiet = rank > 0
        return cls(rank, count, device, meets)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def leave(self) -> None:
        """Part from the others once all have come here."""
        if self.count > 1:
            dist.barrier()
        if self.met:
            dist.destroy_process_group()

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values, without gradient."""
        value = value.detach().clone()
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def of_first(self, number: int) -> int:
        """What the first process holds."""
        held = torch.tensor(number, device=self.device)
        if self.count > 1:
            dist.broadcast(held, src=0)
        return int(held)

    def gather(self, mine: Tensor, slices: Sequence[slice]) -> Tensor:
        """All processes' rows [all, ...] in order, with gradient; `slices[rank]` is where the rows of each belong."""
        if self.count == 1:
            return mine
        gathered: Tensor = _Gather.apply(mine, slices, self.rank)  # type: ignore[no-untyped-call]
        return gathered


def device_of(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of this process. Raises ConfigError for one that is not there."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError("device: torch finds no CUDA device here; set device to auto or cpu")
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if there and wanted != "cpu"
        else torch.device("cpu")
    )


class _Gather(torch.autograd.Function):
    """Rows of unequal numbers; backwards, every process sums what all of them ask of its rows."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, slices: Sequence[slice], rank: int) -> Tensor:
        ctx.mine = slices[rank]
        # A sum with zeros elsewhere: exact, and there for every backend, device and type.
        everything = mine.new_zeros(slices[-1].stop, *mine.shape[1:])
        everything[ctx.mine] = mine
        dist.all_reduce(everything)
        return everything

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [gradient] = gradients
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.mine], None, None
