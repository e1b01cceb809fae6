"""Chroma's embedding functions, within a collection in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import MANY, REFUSAL, TEXTS, TOO_LONG, same

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def nearest(here: Any, query: str) -> str:
    """The one of TEXTS that a collection answers."""
    import chromadb

    chroma = chromadb.EphemeralClient()
    collection = chroma.create_collection("texts", embedding_function=here.function)
    try:
        collection.add(ids=[str(index) for index in range(len(TEXTS))], documents=TEXTS)
        return collection.query(query_texts=[query], n_results=1)["documents"][0][0]
    finally:
        chroma.delete_collection("texts")


def check_texts(here: Any, vectors: Any) -> None:
    same(here.function(TEXTS), vectors(*TEXTS))
    assert nearest(here, "a rocket") == TEXTS[1]


def check_image(here: Any) -> None:
    [vector] = here.function([NOISE])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


class TestOpenAI:
    client = Client(
        "OpenAI",
        "chromadb, `OpenAIEmbeddingFunction`",
        "chromadb",
        """
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction

server = {"api_base": "http://localhost:8000/v1", "api_key": "any"}
function = OpenAIEmbeddingFunction(model_name="sightword-small", **server)
""",
        "one `add` is one request: at most 2,048 documents, or `SIGHTWORD_MAX_COMPATIBLE_ITEMS`",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.function(MANY)) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.function([TOO_LONG])


class TestTei:
    client = Client(
        "Text Embeddings Inference",
        "chromadb, `HuggingFaceEmbeddingServer`",
        "chromadb",
        """
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer

function = HuggingFaceEmbeddingServer(url="http://localhost:8000/tei/embed")
""",
        "texts only; the whole URL; a refusal shows up as an error about its JSON",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)


class TestRoboflow:
    client = Client(
        "Roboflow",
        "chromadb, `RoboflowEmbeddingFunction`",
        "chromadb",
        """
from chromadb.utils.embedding_functions import RoboflowEmbeddingFunction

function = RoboflowEmbeddingFunction(api_key="any", api_url="http://localhost:8000")
""",
        "an item a request; a refusal shows up as a missing key",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_images(self, here: Any) -> None:
        check_image(here)


class TestCohere:
    client = Client(
        "Cohere",
        "chromadb, `CohereEmbeddingFunction`",
        "chromadb",
        """
import os
from chromadb.utils.embedding_functions import CohereEmbeddingFunction

os.environ["CO_API_URL"] = "http://localhost:8000"
function = CohereEmbeddingFunction(api_key="any", model_name="sightword-small")
""",
        "the URL only from the environment",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_images(self, here: Any) -> None:
        check_image(here)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.function([TOO_LONG])


class TestOllama:
    client = Client(
        "Ollama",
        "chromadb, `OllamaEmbeddingFunction`",
        "chromadb",
        """
from chromadb.utils.embedding_functions import OllamaEmbeddingFunction

function = OllamaEmbeddingFunction(url="http://localhost:8000", model_name="sightword-small")
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.function([TOO_LONG])
