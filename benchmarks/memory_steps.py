"""python -m benchmarks.memory_steps [BUNDLE]: what each step of a start on the CPU adds to resident memory, in MiB.

It does what the service does, in its order and in this process, so that each part can be told from the others. What
glibc keeps of freed memory is given back before each reading. Pages of files that are mapped count where they were
touched, as they do in the phase `memory` of `benchmarks.speed`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

BATCHES = {"image": 8, "text": 32}
RUNS = 3


class Steps:
    """Reads the memory of this process after each step, and prints it."""

    def __init__(self) -> None:
        self._before = self._mib()
        print(f"{'python':24} {self._before:7.1f} {0:+7.1f}", flush=True)

    def add(self, name: str) -> None:
        """A step has ended."""
        mib = self._mib()
        print(f"{name:24} {mib:7.1f} {mib - self._before:+7.1f}", flush=True)
        self._before = mib

    @staticmethod
    def _mib() -> float:
        if "model.runtime.engine" in sys.modules:
            sys.modules["model.runtime.engine"].trim_heap()
        return float(psutil.Process().memory_info().rss / 2**20)


def main(folder: Path | None) -> None:
    """Print a line for each step."""
    gc.disable()  # until models are loaded, as the service has it
    steps = Steps()
    import onnxruntime  # noqa: F401

    steps.add("numpy and onnxruntime")
    from service.memory import configure_malloc, freeze_garbage_collector
    from service.serving import Server  # noqa: F401

    steps.add("imports of the service")
    from model.bundle import Bundle, bundled
    from model.runtime.engine import Engine
    from model.runtime.processor import usable_cores
    from service.inference.warmup import warm_up

    configure_malloc()
    freeze_garbage_collector()
    bundle = Bundle.load(folder or bundled())
    engine = Engine(bundle, "cpu")
    steps.add("both sessions")
    tokenizer = bundle.tokenizer()
    steps.add("tokenizer")
    warm_up(engine, bundle, None)
    steps.add("warm-up")
    rows = tokenizer.pad([[tokenizer.encode(["a"])[0][0]] * bundle.context_length] * BATCHES["text"])
    pixels = engine.image_session.session.get_inputs()[0].shape[1:]
    _run(engine.embed_images, _zeros([BATCHES["image"], *pixels]), usable_cores())
    steps.add("batches of 8 pictures")
    _run(engine.embed_texts, rows, usable_cores())
    steps.add("32 texts of full length")


def _zeros(shape: list[int]) -> Any:
    import numpy as np

    return np.zeros(shape, np.uint8)


def _run(embed: Callable[[Any], object], batch: Any, beside: int) -> None:
    """As many runs at once as the batcher may start."""
    with ThreadPoolExecutor(beside) as pool:
        list(pool.map(embed, [batch] * (RUNS * beside)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
