"""The graph that mixes pictures for texts in onnxruntime, in parts that bound its memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from model.config import MixtureConfig

MAX_NUMBERS = 2**24  # that a run holds at once: 64 MiB in float32
OUTPUTS = ["cosines"]
Vectors = npt.NDArray[np.float32]


class MixtureSession:
    """Cosines of pictures, mixed for each text, and texts. One run at a time: it takes all the threads it may have."""

    def __init__(self, session: Any, mixture: MixtureConfig, dimensions: int) -> None:
        self.session = session
        weights = mixture.heads * mixture.tokens
        # Of a pair, its weights and what becomes of them; of a picture, what each of its tokens adds in each head.
        self._pair = 4 * weights
        self._image = weights * (weights + dimensions) + 3 * mixture.tokens * dimensions
        self._lock = threading.Lock()

    def run(self, images: Vectors, texts: Vectors) -> Vectors:
        """[images, tokens, dimensions] and [texts, dimensions], both of unit length -> cosines [images, texts]."""
        cosines = np.empty((len(images), len(texts)), np.float32)
        columns = min(max(len(texts), 1), max(1, MAX_NUMBERS // self._pair))
        rows = max(1, MAX_NUMBERS // (self._image + columns * self._pair))
        for row in range(0, len(images), rows):
            for column in range(0, len(texts), columns):
                part = {"images": images[row : row + rows], "texts": texts[column : column + columns]}
                with self._lock:
                    [found] = self.session.run(OUTPUTS, part)
                cosines[row : row + rows, column : column + columns] = found
        return cosines

    def close(self) -> None:
        """Give back the memory of the device at once."""
        self.session = None
