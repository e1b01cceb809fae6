"""The processes of a run, as torchrun starts them: the device and memory of each, and their collective operations."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from training.config import ConfigError
from training.data.decoding_pool import cores_of_process
from training.progress import console

# The others wait while the first process evaluates and saves; one that died silently is noticed after this time.
TIMEOUT = timedelta(minutes=30)
# mallopt's parameter numbers, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Processes:
    """This process among `count`; the first one, `rank` 0, alone writes files, prints and evaluates."""

    rank: int
    count: int
    device: torch.device
    met: bool  # whether it joined the process group here, and not before

    @classmethod
    def join(cls, device_setting: Literal["auto", "cpu", "cuda"]) -> Processes:
        """Join the process group, if torchrun started several. Raises ConfigError for a device that is not there."""
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        device = device_of(device_setting)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # Crops change size at a stage only, so that timing the kernels once pays.
            torch.backends.cudnn.benchmark = True
        meets = count > 1 and not dist.is_initialized()
        if meets:
            dist.init_process_group(**group_options(device))
            atexit.register(_abandon)
        console.quiet = rank > 0
        return cls(rank, count, device, meets)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def first_on_node(self) -> bool:
        """Whether this is the first of the processes on its machine."""
        return _local_rank() == 0

    def share_on_node(self, numbers: Sequence[int]) -> list[int]:
        """The numbers that the first process on this machine gives; called by all processes at once."""
        if self.count == 1:
            return list(numbers)
        given = torch.tensor([numbers], device=self.device)
        everything = [torch.empty_like(given) for _ in range(self.count)]
        dist.all_gather(everything, given)
        shared: list[int] = everything[self.rank - _local_rank()][0].tolist()
        return shared

    def leave(self) -> None:
        """Leave the process group once all have come here."""
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

    def broadcast(self, number: int) -> int:
        """The number that the first process has."""
        held = torch.tensor(number, device=self.device)
        if self.count > 1:
            dist.broadcast(held, src=0)
        return int(held)

    def require_same(self, what: str, value: int) -> None:
        """Raise ConfigError in all processes where they do not have the same number of `what`."""
        everyones = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        everyones[self.rank] = value
        values = self.total(everyones).tolist()
        if len(set(values)) > 1:
            listed = ", ".join(f"{each} in rank {rank}" for rank, each in enumerate(values))
            raise ConfigError(
                f"processes differ in the number of {what}: {listed}. All must read the same files: let --output and "
                "the data lie in folders that every machine has, with the same content"
            )

    def gather(self, local: Tensor, slices: Sequence[slice]) -> Tensor:
        """All processes' rows [all, ...] in order, with gradient; `slices[rank]` is where the rows of each belong."""
        if self.count == 1:
            return local
        gathered: Tensor = _Gather.apply(local, slices, self.rank)  # type: ignore[no-untyped-call]
        return gathered


def _abandon() -> None:
    """Leave a process group that is still there when the process ends, as after an error: without waiting for others.

    Else the threads of gloo may still run while it is torn down, and the process dies of SIGABRT instead of its error.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def group_options(device: torch.device) -> dict[str, Any]:
    """Arguments of `init_process_group` for processes that compute on such a device."""
    if device.type == "cuda":
        # NCCL would guess the device from the rank, and meet at the first collective operation instead of now.
        return {"backend": "nccl", "timeout": TIMEOUT, "device_id": device}
    return {"backend": "gloo", "timeout": TIMEOUT}


def use_own_cores() -> None:
    """Have torch compute on all cores of this process where torchrun allowed but one, and say so.

    Torchrun sets OMP_NUM_THREADS to 1 unless it is set; any other value is left as it is.
    """
    cores = cores_of_process()
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("OMP_NUM_THREADS") != "1" or cores == 1:
        return
    torch.set_num_threads(cores)
    console.print(
        f"each process computes on {cores} threads, its share of the cores of this machine, and not on the one of "
        "torchrun's OMP_NUM_THREADS=1: for another number, set it to 2 or more",
        soft_wrap=True,
    )


def device_of(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of this process. Raises ConfigError for one that is not there."""
    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise ConfigError("device: torch finds no CUDA device here; set device to auto or cpu")
    return torch.device("cuda", _local_rank()) if available and setting != "cpu" else torch.device("cpu")


def _local_rank() -> int:
    """Which of the processes on its machine this is; torchrun numbers those of a machine one after the other."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def keep_freed_memory() -> None:
    """Have glibc keep the memory that a step frees for the next one; does nothing with another C library.

    It gives every large block back to the kernel at once; on a CPU, where each step allocates gigabytes of activations,
    the page faults of getting it again cost about a third of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, _LARGEST)
        mallopt(M_TOP_PAD, 256 * 2**20)


class _Gather(torch.autograd.Function):
    """All-gather of unequal numbers of rows; backwards, each process gets the sum of all gradients of its rows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, slices: Sequence[slice], rank: int) -> Tensor:
        ctx.rows = slices[rank]
        # A sum with zeros elsewhere: exact, and there for every backend, device and type.
        everything = local.new_zeros(slices[-1].stop, *local.shape[1:])
        everything[ctx.rows] = local
        dist.all_reduce(everything)
        return everything

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [gradient] = gradients
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rows], None, None
