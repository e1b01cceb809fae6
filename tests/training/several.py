"""For torchrun to start: runs of several processes, one after the other, FOLDER OUTPUT '{"NAME": {"FIELD": ...}}'."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import imported_open_clip
from tests.training.conftest import write_config
from training.config import load_config
from training.loop.optimizer import local_tensor
from training.loop.processes import Processes
from training.loop.setup import setup
from training.objectives.contrastive import contrastive_loss
from training.objectives.objective import LocalRows

EACH = 5  # pictures of a process


def main() -> None:
    folder, output, runs = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    dist.init_process_group("gloo", timeout=timedelta(minutes=3))
    mine, held = output / str(dist.get_rank()), {}
    for name, changes in runs.items():
        trainer = setup(load_config(write_config(mine, **changes)), output / name, folder)
        assert bool(len(trainer.holdout)) == trainer.processes.first  # which alone scores it
        trainer.fit()
        held[name] = sum(local_tensor(parameter).numel() for parameter in trainer.network.parameters())
    (mine / "held.json").write_text(json.dumps(held))
    resume(folder, output, runs["fsdp in chunks"])
    if importlib.util.find_spec("open_clip"):
        save_file(local_losses(), output / f"losses-{dist.get_rank()}.safetensors")
    dist.barrier()  # who leaves while another is still talking to it may be aborted on its way out
    dist.destroy_process_group()


def resume(folder: Path, output: Path, changes: dict[str, Any]) -> None:
    """A copy of the run of FSDP in chunks goes on from the middle."""
    run = output / "resumed"
    if dist.get_rank() == 0:
        shutil.copytree(output / "fsdp in chunks", run)
        shutil.rmtree(run / "checkpoints" / "step-000004")
    dist.barrier()
    trainer = setup(load_config(write_config(output / str(dist.get_rank()), **changes)), run, folder)
    assert trainer.state.step == 2
    trainer.fit()


def local_losses() -> dict[str, Tensor]:
    """This process's loss and gradients, ours and open_clip's with `local_loss` and `gather_with_grad`."""
    rank, count = dist.get_rank(), dist.get_world_size()
    share = slice(rank * EACH, (rank + 1) * EACH)
    everything = slice(0, EACH), slice(EACH, 2 * EACH)
    processes = Processes(rank, count, torch.device("cpu"), met=False)
    positive = torch.eye(count * EACH) > 0
    ignored, counts = torch.zeros_like(positive), torch.ones(count * EACH)

    def ours(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        gathered = processes.gather(image, everything), processes.gather(text, everything)
        return contrastive_loss(*gathered, scale, positive, ignored, counts, LocalRows(share, share))

    with imported_open_clip() as open_clip:
        local = {"local_loss": True, "gather_with_grad": True, "rank": rank, "world_size": count}
        theirs = open_clip.loss.ClipLoss(**local)
        return {
            f"{name} {what}": tensor
            for name, loss in (("ours", ours), ("theirs", theirs))
            for what, tensor in gradients(loss, share).items()
        }


def gradients(loss: Callable[[Tensor, Tensor, Tensor], Tensor], share: slice) -> dict[str, Tensor]:
    drawn = torch.randn(2, 2 * EACH, 16, generator=torch.Generator().manual_seed(0))
    image, text = (F.normalize(each[share], dim=-1).requires_grad_() for each in drawn)
    scale = torch.tensor(12.0, requires_grad=True)
    value = loss(image, text, scale)
    value.backward()
    return {"loss": value.detach(), "image": image.grad, "text": text.grad, "scale": scale.grad}


if __name__ == "__main__":
    main()
