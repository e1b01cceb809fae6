"""OpenAI's client, and programs that are given a base URL for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import DATA_URI, IMAGE, MANY, REFUSAL, TEXTS, TOO_LONG, same


def rows(answer: Any) -> list[list[float]]:
    return [entry.embedding for entry in answer.data]


class TestOpenAI:
    client = Client(
        "OpenAI",
        "openai",
        "openai",
        """
from openai import OpenAI

client = OpenAI(base_url="http://localhost:8000/v1", api_key="any")
""",
        "an image is a string that begins `data:image/`",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(rows(here.client.embeddings.create(model="sightword-small", input=TEXTS)), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        answer = here.client.embeddings.create(model="sightword-small", input=["a cat", DATA_URI])
        same(rows(answer), vectors("a cat", IMAGE))

    def test_dimensions(self, here: Any, vectors: Any) -> None:
        answer = here.client.embeddings.create(model="sightword-small", input=TEXTS, dimensions=16)
        same(rows(answer), vectors(*TEXTS, dimensions=16))

    def test_600_inputs(self, here: Any, vectors: Any) -> None:
        found = rows(here.client.embeddings.create(model="sightword-small", input=MANY))
        assert len(found) == len(MANY)
        same(found[-1:], vectors(MANY[-1]))

    def test_list_of_models(self, here: Any) -> None:
        assert "sightword-small" in [model.id for model in here.client.models.list()]

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.client.embeddings.create(model="sightword-small", input=TOO_LONG)


class TestRedisVL:
    client = Client(
        "OpenAI",
        "RedisVL",
        "redisvl",
        """
from redisvl.utils.vectorize import OpenAITextVectorizer

config = {"api_key": "any", "base_url": "http://localhost:8000/v1"}
vectorizer = OpenAITextVectorizer(model="sightword-small", api_config=config)
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.vectorizer.embed_many(TEXTS), vectors(*TEXTS))

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.vectorizer.embed_many(MANY, batch_size=600)) == len(MANY)


class TestMem0:
    client = Client(
        "OpenAI",
        "mem0",
        "mem0ai",
        """
from mem0.configs.embeddings.base import BaseEmbedderConfig
from mem0.embeddings.openai import OpenAIEmbedding

config = {"model": "sightword-small", "api_key": "any", "openai_base_url": "http://localhost:8000/v1"}
embedder = OpenAIEmbedding(BaseEmbedderConfig(embedding_dims=256, **config))
""",
        "texts only; `embedding_dims` must be the model's",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same([here.embedder.embed(TEXTS[0])], vectors(TEXTS[0]))
