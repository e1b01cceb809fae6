"""Checkpoints: safetensors and JSON in a folder that is renamed into place, so that half of one is never seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.network import Network
from training.loop.optimizer import MovingAverage

FOLDER = "checkpoint"


@dataclass
class Progress:
    """Where a run stands: steps done, the best held-out score so far with its step, and the precision it began with.

    The precision may have been chosen by timing; a resumed run must not choose again, or it would round differently.
    """

    step: int = 0
    bf16: bool | None = None
    best_score: float = -1.0
    best_step: int = 0


def save_checkpoint(
    run: Path, network: Network, average: MovingAverage, optimizer: torch.optim.AdamW, progress: Progress
) -> None:
    """Replace the run's checkpoint."""
    draft, final, old = run / f"{FOLDER}.partial", run / FOLDER, run / f"{FOLDER}.old"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(_contiguous(network.state_dict()), draft / "network.safetensors")
    save_file(_contiguous(average.network.state_dict()), draft / "average.safetensors")
    save_file(_optimizer_state(network, optimizer), draft / "optimizer.safetensors")
    (draft / "progress.json").write_text(json.dumps(asdict(progress)), "utf-8")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    draft.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    run: Path, network: Network, average: MovingAverage, optimizer: torch.optim.AdamW
) -> Progress | None:
    """Restore the run's checkpoint into the arguments; None if there is none yet."""
    folder = next((run / name for name in (FOLDER, f"{FOLDER}.old") if (run / name).exists()), None)
    if folder is None:
        return None
    network.load_state_dict(load_file(folder / "network.safetensors"))
    average.network.load_state_dict(load_file(folder / "average.safetensors"))
    _restore_optimizer(network, optimizer, load_file(folder / "optimizer.safetensors"))
    return Progress(**json.loads((folder / "progress.json").read_text("utf-8")))


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _optimizer_state(network: Network, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    flat = {}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            flat[f"{name}/{key}"] = value.contiguous()
    return flat


def _restore_optimizer(network: Network, optimizer: torch.optim.AdamW, flat: dict[str, Tensor]) -> None:
    for name, parameter in network.named_parameters():
        if f"{name}/step" not in flat:  # of a tower that was locked so far
            continue
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = flat[f"{name}/{key}"]
            # Moments follow their parameter's memory layout, or a resumed run would round differently.
            laid_out = torch.empty_like(parameter).copy_(value) if key != "step" else value
            optimizer.state[parameter][key] = laid_out
