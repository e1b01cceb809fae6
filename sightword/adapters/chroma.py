"""Chroma: `create_collection(..., embedding_function=SightwordEmbeddingFunction(), data_loader=PictureLoader())`.

Chroma stores the function's name and settings with a collection, and finds it again once this module is imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from chromadb.api.types import DataLoader, Embeddable, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import register_embedding_function

from sightword.adapters import open_model


class PictureLoader(DataLoader[list[Any]]):
    """Gives Chroma the files at `uris` as they are: its own loader turns no photo upright, and drops palettes."""

    def __call__(self, uris: Sequence[str | None]) -> list[Any]:
        """The bytes of each file, as Chroma wants pictures: an array."""
        return [None if uri is None else np.fromfile(uri, np.uint8) for uri in uris]


@register_embedding_function
class SightwordEmbeddingFunction(EmbeddingFunction[Embeddable]):
    """Embeds documents and pictures. The key is read from the environment, so that no collection stores it."""

    def __init__(
        self, url: str | None = None, model: str | None = None, api_key_env_var: str = "SIGHTWORD_API_KEY"
    ) -> None:
        self.url, self.model, self.api_key_env_var = url, model, api_key_env_var

    def __call__(self, input: Embeddable) -> Embeddings:
        """A str is a text; an array the bytes of a file ([n]), or pixels ([height, width] and maybe channels)."""
        model = open_model(self.url, os.environ.get(self.api_key_env_var), self.model)
        return list(model.embed([_item(each) for each in input]))

    @staticmethod
    def name() -> str:
        """What it is registered as."""
        return "sightword"

    def default_space(self) -> Space:
        """The distance of CLIP's vectors."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """What a collection stores of it."""
        return {"url": self.url, "model": self.model, "api_key_env_var": self.api_key_env_var}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> SightwordEmbeddingFunction:
        """The function again, of what `get_config` gave."""
        return SightwordEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """The URL may move, the model may not: its vectors are in the collection."""
        if new_config.get("model", old_config["model"]) != old_config["model"]:
            raise ValueError("Vectors of two models cannot be compared: make a new collection for another model.")


def _item(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if value.ndim == 1:
        return value.tobytes()
    from PIL import Image  # for pixels only

    return Image.fromarray(value)
