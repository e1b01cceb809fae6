"""Checkpoints: folders of safetensors and JSON that are renamed into place, so that half of one is never seen.

They hold whole tensors however many processes there are, so that a run can go on with another number of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from model.export.tensors import write_tensors
from model.network import Network
from training.loop.optimizer import MovingAverage
from training.loop.precision import Chosen
from training.loop.processes import Processes

FOLDER = "checkpoints"
NAME = re.compile(r"step-\d{6,}")
State = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands: steps done, the best held-out score so far with its step, and the precision it began with.

    The precision may have been chosen by timing; a resumed run must not choose again, or it would round differently.
    The samples of a step follow from its number and the seed, so that there is no other state of a loader.
    """

    step: int = 0
    precision: Chosen | None = None
    best_score: float = -1.0
    best_step: int = 0
    start_score: float | None = None  # of the bundle that is trained further, before anything was learned
    scaler: dict[str, Any] | None = None  # of float16: by how much losses are scaled, and since when


def checkpoints(run: Path) -> list[Path]:
    """Those of a run, from the oldest to the newest."""
    folder = run / FOLDER
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.exists() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def save_checkpoint(
    run: Path,
    network: Network,
    average: MovingAverage,
    optimizer: torch.optim.AdamW,
    progress: Progress,
    processes: Processes,
    keep: int,
) -> None:
    """Add one and drop all but the last `keep`. Raises OSError where the disk does not take it; the others stay."""
    states = {
        "network": whole(network.state_dict(), processes),
        "average": whole(average.state, processes),
        "optimizer": whole(_optimizer_state(network, optimizer), processes),
    }
    if not processes.first:
        return
    final = run / FOLDER / f"step-{progress.step:06d}"
    with _draft(final) as draft:
        for name, state in states.items():
            write_tensors(state, draft / f"{name}.safetensors")
        (draft / "progress.json").write_text(json.dumps(asdict(progress)), "utf-8")
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)


def load_checkpoint(
    run: Path, network: Network, average: MovingAverage, optimizer: torch.optim.AdamW
) -> Progress | None:
    """Restore the run's newest checkpoint into the arguments; None if there is none yet."""
    there = checkpoints(run)
    if not there:
        return None
    newest = there[-1]
    _restore(network.state_dict(), load_file(newest / "network.safetensors"))
    _restore(average.state, load_file(newest / "average.safetensors"))
    _restore_optimizer(network, optimizer, load_file(newest / "optimizer.safetensors"))
    return Progress(**json.loads((newest / "progress.json").read_text("utf-8")))


def whole(state: Mapping[str, Tensor], processes: Processes) -> State:
    """The tensors without what divides them among processes; every process must ask, the first one gets them."""
    made = {}
    for name, tensor in state.items():
        full = tensor.detach()
        if isinstance(full, DTensor):
            full = full.full_tensor().cpu()  # one at a time, so that a GPU need not hold them all
        if processes.first:
            made[name] = full
    return made


@contextmanager
def durable(file: Path) -> Iterator[Path]:
    """A file to write beside `file`, which it replaces once it lies on the disk. Raises OSError; the old one stays."""
    draft = file.with_name(f"{file.name}.partial")
    try:
        yield draft
        _flush(draft)
        draft.replace(file)
        _flush(file.parent)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise OSError(f"{file} cannot be written: {error}") from error


@contextmanager
def _draft(final: Path) -> Iterator[Path]:
    draft = final.with_name(f"{final.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        for file in (*draft.iterdir(), draft):
            _flush(file)
        shutil.rmtree(final, ignore_errors=True)  # of a run that went on from an earlier one
        draft.rename(final)
        _flush(final.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        earlier = [path.name for path in checkpoints(final.parents[1])]
        told = f"{earlier[-1]} is whole: make room and give the same command again" if earlier else "there is no other"
        raise OSError(f"the checkpoint {final} cannot be written: {error}. Of the earlier ones {told}") from error


def _flush(path: Path) -> None:
    """Have the kernel put it on the disk, so that a rename never survives what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@torch.no_grad()
def _restore(into: Mapping[str, Tensor], state: State) -> None:
    if into.keys() != state.keys():
        raise KeyError(f"the checkpoint is of another network: {sorted(into.keys() ^ state.keys())[:5]}")
    for name, tensor in into.items():
        tensor.copy_(_as(tensor, state[name]))


def _as(like: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` on the device of `like`, and divided among processes as it is."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    # Every process has read the whole tensor: none needs to be sent its part.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _optimizer_state(network: Network, optimizer: torch.optim.AdamW) -> State:
    flat = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = value
    return flat


def _restore_optimizer(network: Network, optimizer: torch.optim.AdamW, flat: State) -> None:
    for name, parameter in network.named_parameters():
        if f"{name}/step" not in flat:  # of a layer that was locked so far
            continue
        state = optimizer.state[parameter]
        state["step"] = flat[f"{name}/step"].to(parameter.device)
        for key in ("exp_avg", "exp_avg_sq"):
            # Moments follow their parameter's memory layout, or a resumed run would round differently.
            state[key] = torch.empty_like(parameter).copy_(_as(parameter, flat[f"{name}/{key}"]))
