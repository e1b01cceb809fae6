"""LangChain's embeddings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import DATA_URI, IMAGE, MANY, REFUSAL, TEXTS, TOO_LONG, same


class TestOpenAI:
    client = Client(
        "OpenAI",
        "langchain-openai",
        "langchain-openai",
        """
from langchain_openai import OpenAIEmbeddings

server = {"base_url": "http://localhost:8000/v1", "api_key": "any"}
embeddings = OpenAIEmbeddings(model="sightword-small", check_embedding_ctx_length=False, **server)
""",
        "without `check_embedding_ctx_length=False` it sends token ids of another tokenizer, which are refused",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents(TEXTS), vectors(*TEXTS))
        same([here.embeddings.embed_query(TEXTS[0])], vectors(TEXTS[0]))
        same(asyncio.run(here.embeddings.aembed_documents(TEXTS)), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents([DATA_URI]), vectors(IMAGE))

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.embeddings.embed_documents(MANY)) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embeddings.embed_query(TOO_LONG)


class TestNvidia:
    client = Client(
        "OpenAI",
        "langchain-nvidia-ai-endpoints",
        "langchain-nvidia-ai-endpoints",
        """
from langchain_nvidia_ai_endpoints import NVIDIAEmbeddings

embeddings = NVIDIAEmbeddings(model="sightword-small", base_url="http://localhost:8000/v1", api_key="any")
""",
        'sends `truncate="NONE"` if not told otherwise: `truncate="END"` cuts long texts',
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents(TEXTS), vectors(*TEXTS))
        same([here.embeddings.embed_query(TEXTS[0])], vectors(TEXTS[0]))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents([DATA_URI]), vectors(IMAGE))

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embeddings.embed_query(TOO_LONG)


class TestInfinity:
    client = Client(
        "Infinity",
        "langchain-community, `InfinityEmbeddings`",
        "langchain-community",
        """
from langchain_community.embeddings import InfinityEmbeddings

embeddings = InfinityEmbeddings(model="sightword-small", infinity_api_url="http://localhost:8000")
""",
        "sends no key; `http://localhost:8000/v1` works as well",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents(TEXTS), vectors(*TEXTS))
        same([here.embeddings.embed_query(TEXTS[0])], vectors(TEXTS[0]))

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.embeddings.embed_documents(MANY)) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embeddings.embed_query(TOO_LONG)


class TestCohere:
    client = Client(
        "Cohere",
        "langchain-cohere",
        "langchain-cohere",
        """
from langchain_cohere import CohereEmbeddings, CohereRerank

server = {"model": "sightword-small", "cohere_api_key": "any", "base_url": "http://localhost:8000"}
embeddings, reranker = CohereEmbeddings(**server), CohereRerank(**server)
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.embeddings.embed_documents(TEXTS), vectors(*TEXTS))
        same([here.embeddings.embed_query(TEXTS[0])], vectors(TEXTS[0]))

    def test_rerank(self, here: Any) -> None:
        ranked = here.reranker.rerank(["a dog", "a photo of a cat", "a rocket"], "a cat")
        assert ranked[0]["index"] == 1

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.embeddings.embed_query(TOO_LONG)
