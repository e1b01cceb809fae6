"""Vectors that were computed before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.metrics import Metrics
from service.settings import Settings

Vector = NDArray[np.float32]


class Cache:
    """Nothing yet."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings

    async def get(self, keys: Sequence[str], dimensions: int) -> list[Vector | None]:
        """The vectors [dimensions] that are known."""
        return [None] * len(keys)

    def put(self, key: str, vector: Vector) -> None:
        """Remember a vector."""

    async def aclose(self) -> None:
        """End the connections."""
