"""The real service on an engine that computes nothing, so that whatever else it does is what limits it.

    python -m benchmarks.speed.stub_service [flags of the service]

A batch takes `OVERHEAD_S + items / ITEMS_S` seconds, one batch at a time as on a GPU, and of no core: time is slept.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import service.opening
from model.bundle import Bundle
from model.runtime.engine import Engine
from model.runtime.providers import PROVIDERS
from service.__main__ import app

ITEMS_S = 20_000.0
OVERHEAD_S = 0.0005
LARGEST_BATCH = 128  # that warm-up tries on a GPU


class StubEngine(Engine):
    """Gives every item a unit vector of its place in the batch."""

    def __init__(self, bundle: Bundle, *_: Any, **__: Any) -> None:
        """Whatever provider, device and limits are asked for: batches are made as for CUDA."""
        super().__init__(bundle, "cpu", threads=1)
        self.provider = PROVIDERS["cuda"]
        vectors = np.random.default_rng(0).standard_normal((LARGEST_BATCH, bundle.dimensions), np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._busy = threading.Lock()

    def embed_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels [batch, size, size, 3] -> vectors [batch, dimensions], which say nothing of them."""
        return self._run(len(pixels))

    def embed_texts(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids [batch, length] -> vectors [batch, dimensions], which say nothing of them."""
        return self._run(len(token_ids))

    def _run(self, items: int) -> NDArray[np.float32]:
        with self._busy:
            time.sleep(OVERHEAD_S + items / ITEMS_S)
        return self._vectors[:items]


if __name__ == "__main__":
    service.opening.Engine = StubEngine  # type: ignore[attr-defined]
    app()
