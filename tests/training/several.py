"""Runs of several processes, one after the other, for torchrun to start: FOLDER OUTPUT '{"NAME": {"FIELD": ...}}'."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from tests.training.conftest import write_config
from training.config import load_config
from training.loop.trainer import Trainer


def main() -> None:
    folder, output, runs = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    dist.init_process_group("gloo", timeout=timedelta(minutes=3))
    for name, changes in runs.items():
        file = write_config(output / str(dist.get_rank()), **changes)
        Trainer(load_config(file), output / name, folder).train()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
