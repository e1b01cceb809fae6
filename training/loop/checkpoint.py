"""Checkpoints: folders of safetensors and JSON.

They hold whole tensors however many processes there are, so that a run can go on with another number of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from model.export.tensors import write_tensors
from model.files import replace_folder
from model.network import Network
from training.loop.optimizer import MovingAverage
from training.loop.precision import ComputePrecision
from training.loop.processes import Processes
from training.run_folder import checkpoint_folder, list_checkpoints

StateDict = dict[str, Tensor]
PROGRESS = "progress.json"


@dataclass
class TrainingState:
    """Beside the tensors of a checkpoint: steps done, the best held-out score with its step, the precision of the run.

    The precision may have been chosen by timing; a resumed run must not choose again, or it would round differently.
    The samples of a step follow from its number and the seed, so that there is no other state of a loader.
    """

    step: int = 0
    precision: ComputePrecision | None = None
    best_score: float = -1.0
    best_step: int = 0
    start_score: float | None = None  # of the bundle that is trained further, before anything was learned
    scaler: dict[str, Any] | None = None  # of float16: by how much losses are scaled, and since when


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint will hold, copied to the memory of the first process: training goes on beside the writing."""

    step: int
    tensors: dict[str, StateDict]  # by the names of their files
    progress: dict[str, Any]


def take_snapshot(
    network: Network, average: MovingAverage, optimizer: torch.optim.AdamW, state: TrainingState, processes: Processes
) -> Snapshot | None:
    """The state as it is now; called by all processes, None in all but the first."""
    states = {
        "network": network.state_dict(),
        "average": average.state,
        "optimizer": _optimizer_state(network, optimizer),
    }
    tensors = {name: full_state_dict(each, processes, copy=True) for name, each in states.items()}
    return Snapshot(state.step, tensors, asdict(state)) if processes.first else None


def write_checkpoint(run: Path, snapshot: Snapshot, keep: int) -> None:
    """Add a checkpoint and drop all but the last `keep`. Raises OSError where it cannot be written; the others stay."""
    final = checkpoint_folder(run, snapshot.step)
    try:
        with replace_folder(final) as draft:  # where a run went on from an earlier one, `final` is there
            for name, tensor_state in snapshot.tensors.items():
                write_tensors(tensor_state, draft / f"{name}.safetensors")
            (draft / PROGRESS).write_text(json.dumps(snapshot.progress), "utf-8")
    except OSError as error:
        earlier = [path.name for path in list_checkpoints(run)]
        advice = "there is no other"
        if earlier:
            advice = f"{earlier[-1]} is whole: make room and give the same command again"
        raise OSError(f"the checkpoint {error}. Of the earlier ones {advice}") from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)


def read_state(run: Path) -> TrainingState | None:
    """How far the run's newest checkpoint is; None if there is none yet."""
    found = list_checkpoints(run)
    return TrainingState(**json.loads((found[-1] / PROGRESS).read_text("utf-8"))) if found else None


def restore_checkpoint(
    run: Path, step: int, network: Network, average: MovingAverage, optimizer: torch.optim.AdamW
) -> None:
    """Restore the tensors of the run's checkpoint of `step` into the arguments."""
    folder = checkpoint_folder(run, step)
    _restore(network.state_dict(), load_file(folder / "network.safetensors"))
    _restore(average.state, load_file(folder / "average.safetensors"))
    _restore_optimizer(network, optimizer, load_file(folder / "optimizer.safetensors"))


def full_state_dict(state: Mapping[str, Tensor], processes: Processes, *, copy: bool = False) -> StateDict:
    """The tensors gathered from the processes that share them; called by all of them, empty in all but the first.

    With `copy` they are in the host's memory and share none of it with `state`.
    """
    gathered = {}
    for name, tensor in state.items():
        full = tensor.detach()
        if isinstance(full, DTensor):
            full = full.full_tensor().cpu()  # one at a time, so that a GPU need not hold them all
        elif copy and processes.first:
            full = full.to("cpu", copy=True)
        if processes.first:
            gathered[name] = full
    return gathered


@torch.no_grad()
def _restore(into: Mapping[str, Tensor], state: StateDict) -> None:
    if into.keys() != state.keys():
        raise KeyError(f"the checkpoint is of another network: {sorted(into.keys() ^ state.keys())[:5]}")
    for name, tensor in into.items():
        tensor.copy_(_place_like(tensor, state[name]))


def _place_like(like: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` on the device of `like`, and divided among processes as it is."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    # Every process has read the whole tensor: none needs to be sent its part.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _optimizer_state(network: Network, optimizer: torch.optim.AdamW) -> StateDict:
    flat = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = value
    return flat


def _restore_optimizer(network: Network, optimizer: torch.optim.AdamW, flat: StateDict) -> None:
    for name, parameter in network.named_parameters():
        if f"{name}/step" not in flat:  # of a layer that was locked so far
            continue
        state = optimizer.state[parameter]
        state["step"] = flat[f"{name}/step"].to(parameter.device)
        for key in ("exp_avg", "exp_avg_sq"):
            # Moments follow their parameter's memory layout, or a resumed run would round differently.
            state[key] = torch.empty_like(parameter).copy_(_place_like(parameter, flat[f"{name}/{key}"]))
