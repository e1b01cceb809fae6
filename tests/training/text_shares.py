"""For torchrun to start: steps of FSDP whose processes have unequal shares of texts, OUTPUT CASES.

Cases are lists of arguments of `step_of`, as JSON; what it returns is written into OUTPUT/RANK.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from model.config import Preprocessing
from model.network import build_network
from model.tokenizers.clip import Tokenizer
from tests.training.conftest import TINY
from training.config import TrainConfig
from training.data.collate import Batch, Images
from training.data.matches import match_drawn
from training.loop import loader as loading
from training.loop.loader import Loader
from training.loop.optimizer import MovingAverage, build_optimizer
from training.loop.precision import ComputePrecision
from training.loop.processes import Processes
from training.loop.timing import SyntheticData
from training.loop.towers import SharedTowers
from training.loop.train_unit import TrainUnit
from training.loop.trainer import train_step

IMAGES = 64
ALONE = Processes(0, 1, torch.device("cpu"), met=False)


class FewTexts:
    """Noise, with a number of texts that is not that of the images."""

    def __init__(self, texts: int) -> None:
        self._texts, self._source = texts, SyntheticData(40)

    def batch(self, step: int, size: int) -> Batch:
        largest = self._source.batch(step, max(size, self._texts))
        drawn = np.arange(size) % self._texts
        return replace(
            largest,
            items=np.arange(size),
            texts=[" ".join(["word"] * (1 + i % 9)) + f" {i}" for i in range(self._texts)],
            drawn=torch.from_numpy(drawn),
            counts=torch.from_numpy(np.bincount(drawn, minlength=self._texts)),
            matches=match_drawn(drawn, self._texts),
        )

    def images(self, items: npt.NDArray[np.int64]) -> Images:
        sides = torch.stack([torch.full((40, 40, 4), 3 * int(item) % 256, dtype=torch.uint8) for item in items])
        sides[..., 3] = 255
        present = torch.ones(len(items), dtype=torch.bool)
        return Images(sides, torch.ones(len(items)), ~present, present)

    def close(self) -> None:
        pass


def step_of(
    processes: Processes, texts: int, chunks: int, group: int, precision: ComputePrecision = "fp32"
) -> dict[str, Any]:
    """The figures of one step of so many texts, `group` of them together, in so many micro-batches."""
    loading.TEXT_GROUP = loading.LARGE_TEXT_GROUP = group
    config = TrainConfig.model_validate(
        {
            "name": "shares", "model": "sightword-small", "data": {"train": [{"shards": ["*.tar"]}]},
            "steps": 1, "batch_size": IMAGES, "stages": [{"start": 0, "pixels": 32}], "accumulate": chunks,
            "optimizer": {"warmup_steps": 0}, "parallel": "fsdp",
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(TINY)
    towers = SharedTowers(network, Preprocessing(size=32), config, processes, precision)
    optimizer, average = build_optimizer(network, config.optimizer), MovingAverage(network, 0.5)
    unit = TrainUnit(config, towers, optimizer, average, precision, processes)
    tokenizer = Tokenizer.clip(TINY.text.vocab_size, TINY.text.context_length)
    loader = Loader(config, FewTexts(texts), tokenizer, processes)
    inputs = loader.load(0)
    loader.close()
    types: list[torch.dtype] = []
    with Gathers(types):
        figures = train_step(unit, inputs)
    outputs = unit.encoder.forward(inputs)
    return {
        "loss": figures["loss"],
        "norm": figures["gradient_norm"],
        "gathers": len(types),
        "gathered": sorted({str(each) for each in types}),
        "features": sorted({str(each.dtype) for each in outputs}),
        "gradients": sorted({str(each.grad.dtype) for each in network.parameters() if each.grad is not None}),
        "groups": [len(part.token_ids) for part in inputs.micro_batches],
    }


class Gathers(TorchDispatchMode):
    """Notes each gathering of weights, by their type."""

    def __init__(self, types: list[torch.dtype]) -> None:
        super().__init__()
        self._types = types

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "allgather" in str(func):
            self._types.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


def main() -> None:
    output, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    processes = Processes(dist.get_rank(), dist.get_world_size(), torch.device("cpu"), met=True)
    found = [step_of(processes, *case) for case in cases]
    (output / f"{processes.rank}.json").write_text(json.dumps(found))
    processes.leave()


if __name__ == "__main__":
    main()
