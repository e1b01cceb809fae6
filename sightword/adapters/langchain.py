"""LangChain: `SightwordEmbeddings()` wherever it takes an `Embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_core.embeddings import Embeddings

import sightword
from sightword.adapters import open_model, picture


class SightwordEmbeddings(Embeddings):
    """Embeds texts, and by `embed_image` pictures, which vector stores call in `add_images`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
    ) -> None:
        """`truncate`: cut texts that are longer than the model reads, which are refused otherwise."""
        self.url, self.api_key, self.model = url, api_key, model
        self.dimensions, self.truncate = dimensions, truncate

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        return self._embed(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text."""
        return self._embed([text])[0]

    def embed_image(self, uris: Sequence[str | Path]) -> list[list[float]]:
        """One vector a picture, of its path or URL."""
        return self._embed([picture(uri) for uri in uris])

    def _embed(self, items: Sequence[str | Path | sightword.Image]) -> list[list[float]]:
        model = open_model(self.url, self.api_key, self.model)
        vectors: list[list[float]] = model.embed(items, dimensions=self.dimensions, truncate=self.truncate).tolist()
        return vectors
