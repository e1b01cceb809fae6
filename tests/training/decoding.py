"""For a test to start: decodes the shards of a FOLDER, prints the processes that it started, and waits to be ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import psutil

from training.config import Data, Source
from training.data.dataset import TrainingSet


def main() -> None:
    data = Data(train=[Source(shards=["*.tar"])], pictures="disk", holdout=0, store_pixels=32)
    images = TrainingSet(data, Path(sys.argv[1]), 0)
    images.images(np.arange(len(images)))
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    try:
        while True:
            images.images(np.arange(len(images)))
            time.sleep(0.01)
    finally:
        images.close()


if __name__ == "__main__":
    main()
