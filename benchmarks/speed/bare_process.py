"""python -m benchmarks.speed.bare_process BUNDLE PROVIDER: opens both graphs, runs each, prints its resident MiB.

It imports nothing else of ours: this is what a process with the two sessions cannot do without.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil


def main() -> None:
    """Print resident MiB, and end."""
    folder, provider = Path(sys.argv[1]), sys.argv[2]
    image, text = (
        ort.InferenceSession(str(folder / name), providers=[provider]) for name in ("image.onnx", "text.onnx")
    )
    side = image.get_inputs()[0].shape[1]
    length = text.get_inputs()[0].shape[1]
    image.run(None, {"pixels": np.zeros((8, side, side, 3), np.uint8)})
    text.run(None, {"token_ids": np.ones((16, length if isinstance(length, int) else 16), np.int64)})
    print(psutil.Process().memory_info().rss / 2**20)


if __name__ == "__main__":
    main()
