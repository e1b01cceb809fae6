"""For torchrun to start: pictures in memory as each of several processes has them, FOLDER OUTPUT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import torch.distributed as dist
from safetensors.torch import save_file

from training.config import Data, Source
from training.data.dataset import TrainingSet
from training.loop.processes import Processes


def main() -> None:
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    processes = Processes.join("cpu")
    data = TrainingSet(Data(train=[Source(shards=["*.tar"])], holdout=0, store_pixels=48), folder, 1, processes)
    images = data.images(data.batch(0, 32).items)
    tensors = {name: getattr(images, name).contiguous() for name in ("rgba", "aspects", "transparent", "present")}
    save_file(tensors, output / f"{processes.rank}.safetensors")
    mapped = {(each.split()[3], each.split()[4]) for each in maps() if "decoded-images" in each}
    started = [child.name() for child in psutil.Process().children(recursive=True)]
    seen = {"mapped": sorted(mapped), "started": started, "skipped": data.skipped.counts, "length": len(data)}
    (output / f"{processes.rank}.json").write_text(json.dumps(seen))
    dist.barrier()  # as long as the other one maps it
    processes.leave()


def maps() -> list[str]:
    """What is mapped by this process, a line each: the fourth and fifth column are the device and the inode."""
    return Path("/proc/self/maps").read_text().splitlines()


if __name__ == "__main__":
    main()
