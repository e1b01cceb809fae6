"""LlamaIndex: `SightwordEmbedding()` as `embed_model`, and as `image_embed_model` of a MultiModalVectorStoreIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageType

from sightword.adapters import open_model, picture


class SightwordEmbedding(MultiModalEmbedding):
    """Texts and pictures in one space. `truncate`: cut texts that are longer than the model reads, not refuse them."""

    url: str | None = None
    api_key: str | None = Field(default=None, exclude=True, repr=False)
    model: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    embed_batch_size: int = Field(default=512, gt=0, le=2048)

    @classmethod
    def class_name(cls) -> str:
        """What it is called where indices are stored."""
        return "SightwordEmbedding"

    def _embed(self, items: Sequence[Any]) -> list[list[float]]:
        model = open_model(self.url, self.api_key, self.model)
        vectors: list[list[float]] = model.embed(items, dimensions=self.dimensions, truncate=self.truncate).tolist()
        return vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([query])[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts)

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return self._embed([each.getvalue() if isinstance(each, BytesIO) else picture(each) for each in img_file_paths])

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)
