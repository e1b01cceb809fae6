"""The graph that mixes pictures for texts in onnxruntime, in parts that bound its memory."""

from __future__ import annotations

import threading
from typing import Any

from model.config import MixtureConfig
from model.mixture_tiles import Vectors, mix_in_tiles

OUTPUTS = ["cosines"]


class MixtureSession:
    """Cosines of pictures, mixed for each text, and texts. One run at a time: it takes all the threads it may have."""

    def __init__(self, session: Any, mixture: MixtureConfig) -> None:
        self.session, self._mixture = session, mixture
        self._lock = threading.Lock()

    def run(self, images: Vectors, texts: Vectors) -> Vectors:
        """[images, tokens, dimensions] and [texts, dimensions], both of unit length -> cosines [images, texts]."""
        return mix_in_tiles(self._run_tile, self._mixture, images, texts)

    def _run_tile(self, images: Vectors, texts: Vectors) -> Vectors:
        with self._lock:
            [cosines] = self.session.run(OUTPUTS, {"images": images, "texts": texts})
        found: Vectors = cosines
        return found

    def close(self) -> None:
        """Give back the memory of the device at once."""
        self.session = None
