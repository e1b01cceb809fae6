"""The graph that mixes pictures for texts in onnxruntime, in parts that bound its memory."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from model.config import MixtureConfig
from model.mixture_tiles import mixture_tiles

OUTPUTS = ["cosines"]
Vectors = npt.NDArray[np.float32]


class MixtureSession:
    """Cosines of pictures, mixed for each text, and texts. One run at a time: it takes all the threads it may have."""

    def __init__(self, session: Any, mixture: MixtureConfig) -> None:
        self.session, self._mixture = session, mixture
        self._lock = threading.Lock()

    def run(self, images: Vectors, texts: Vectors) -> Vectors:
        """[images, tokens, dimensions] and [texts, dimensions], both of unit length -> cosines [images, texts]."""
        cosines = np.empty((len(images), len(texts)), np.float32)
        for rows, columns in product(*mixture_tiles(self._mixture, texts.shape[1], len(images), len(texts))):
            with self._lock:
                [cosines[rows, columns]] = self.session.run(OUTPUTS, {"images": images[rows], "texts": texts[columns]})
        return cosines

    def close(self) -> None:
        """Give back the memory of the device at once."""
        self.session = None
