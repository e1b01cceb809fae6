"""LlamaIndex's embeddings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import IMAGE, MANY, PICTURE, REFUSAL, TEXTS, TOO_LONG, same


def check_texts(here: Any, vectors: Any) -> None:
    same(here.embedding.get_text_embedding_batch(TEXTS), vectors(*TEXTS))
    same([here.embedding.get_query_embedding(TEXTS[0])], vectors(TEXTS[0]))


class TestOpenAI:
    client = Client(
        "OpenAI",
        "llama-index-embeddings-openai",
        "llama-index-embeddings-openai",
        """
from llama_index.embeddings.openai import OpenAIEmbedding

server = {"api_base": "http://localhost:8000/v1", "api_key": "any"}
embedding = OpenAIEmbedding(model_name="sightword-small", **server)
""",
        "texts only; the name goes into `model_name`, not `model`",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)
        same([asyncio.run(here.embedding.aget_text_embedding(TEXTS[0]))], vectors(TEXTS[0]))

    def test_600_inputs(self, here: Any) -> None:
        here.embedding.embed_batch_size = 600
        assert len(here.embedding.get_text_embedding_batch(MANY)) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embedding.get_text_embedding(TOO_LONG)


class TestNvidia:
    client = Client(
        "OpenAI",
        "llama-index-embeddings-nvidia",
        "llama-index-embeddings-nvidia",
        """
from llama_index.embeddings.nvidia import NVIDIAEmbedding

embedding = NVIDIAEmbedding(model="sightword-small", base_url="http://localhost:8000/v1", api_key="any")
""",
        'sends `truncate="NONE"` if not told otherwise: `truncate="END"` cuts long texts',
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embedding.get_text_embedding(TOO_LONG)


class TestTei:
    client = Client(
        "Text Embeddings Inference",
        "llama-index-embeddings-text-embeddings-inference",
        "llama-index-embeddings-text-embeddings-inference",
        """
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

embedding = TextEmbeddingsInference(model_name="sightword-small", base_url="http://localhost:8000/tei")
""",
        'texts only; cuts long texts unless `truncate_text=False`; a key is `auth_token="Bearer KEY"`',
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)


class TestHuggingFace:
    client = Client(
        "Text Embeddings Inference",
        "llama-index-embeddings-huggingface-api",
        "llama-index-embeddings-huggingface-api",
        """
from llama_index.embeddings.huggingface_api import HuggingFaceInferenceAPIEmbedding

embedding = HuggingFaceInferenceAPIEmbedding(model_name="http://localhost:8000/tei", token="any")
""",
        "texts only; its synchronous methods fail at the second call: use the asynchronous ones",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        async def embed() -> list[list[float]]:
            return [await here.embedding.aget_query_embedding(text) for text in TEXTS]

        same(asyncio.run(embed()), vectors(*TEXTS))


class TestOllama:
    client = Client(
        "Ollama",
        "llama-index-embeddings-ollama",
        "llama-index-embeddings-ollama",
        """
from llama_index.embeddings.ollama import OllamaEmbedding

embedding = OllamaEmbedding(model_name="sightword-small", base_url="http://localhost:8000")
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embedding.get_text_embedding(TOO_LONG)


class TestCohere:
    client = Client(
        "Cohere",
        "llama-index-embeddings-cohere",
        "llama-index-embeddings-cohere",
        """
from llama_index.embeddings.cohere import CohereEmbedding

server = {"base_url": "http://localhost:8000", "api_key": "any"}
embedding = CohereEmbedding(model_name="embed-english-v3.0", **server)
""",
        "knows only Cohere's names: an alias must stand for the model",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_images(self, here: Any, vectors: Any) -> None:
        same([here.embedding.get_image_embedding(str(PICTURE))], vectors(IMAGE))
