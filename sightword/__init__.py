"""Vectors of texts and pictures, from a Sightword service or without one.

import sightword
from pathlib import Path

client = sightword.Client()  # SIGHTWORD_URL, SIGHTWORD_API_KEY; or sightword.load(), which needs no service
vectors = client.embed([Path("cat.jpg"), "a cat"])  # float32 [2, dimensions]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightword.async_client import AsyncClient
from sightword.client import Client
from sightword.errors import SightwordError
from sightword.items import Image
from sightword.results import (
    Classification,
    Embedded,
    Info,
    LabelSet,
    ModelInfo,
    Prediction,
    Ranked,
    Similarity,
)

if TYPE_CHECKING:
    from sightword.local.embedder import Local

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Embedded",
    "Image",
    "Info",
    "LabelSet",
    "ModelInfo",
    "Prediction",
    "Ranked",
    "SightwordError",
    "Similarity",
    "load",
]


def load(name: str | None = None, provider: str = "auto") -> Local:
    """Open a model in this process, with the same calls as a client: no service, and no torch.

    `name` is the folder of a bundle, or a model that was pulled (`python -m model pull`); by default that which ships.
    `provider` is auto, cpu, cuda, tensorrt or openvino. Raises MissingDependencyError where onnxruntime or the
    distribution `sightword` is not installed, ModelError for a model that cannot be opened.
    """
    from sightword.local.requirements import needs_runtime

    with needs_runtime():
        from sightword.local.embedder import Local
    return Local.open(name, provider)
