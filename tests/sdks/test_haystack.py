"""Haystack's components."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import IMAGE, MANY, PICTURE, REFUSAL, TEXTS, TOO_LONG, same


def documents(contents: list[str]) -> list[Any]:
    from haystack import Document

    return [Document(content=content) for content in contents]


def check_texts(here: Any, vectors: Any) -> None:
    embedded = here.document_embedder.run(documents(TEXTS))["documents"]
    same([document.embedding for document in embedded], vectors(*TEXTS))
    same([here.text_embedder.run(TEXTS[0])["embedding"]], vectors(TEXTS[0]))


def check_images(here: Any, vectors: Any) -> None:
    from haystack import Document

    [document] = here.image_embedder.run([Document(content=None, meta={"file_path": str(PICTURE)})])["documents"]
    same([document.embedding], vectors(IMAGE))


def check_rerank(here: Any) -> None:
    ranked = here.ranker.run(query="a cat", documents=documents(["a dog", "a photo of a cat", "a rocket"]))
    assert ranked["documents"][0].content == "a photo of a cat"


class TestOpenAI:
    client = Client(
        "OpenAI",
        "haystack-ai",
        "haystack-ai",
        """
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

server = {"api_base_url": "http://localhost:8000/v1", "api_key": Secret.from_token("any")}
text_embedder = OpenAITextEmbedder(model="sightword-small", **server)
document_embedder = OpenAIDocumentEmbedder(model="sightword-small", **server)
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_600_inputs(self, here: Any) -> None:
        here.document_embedder.batch_size = 600
        embedded = here.document_embedder.run(documents(MANY))["documents"]
        assert sum(document.embedding is not None for document in embedded) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.text_embedder.run(TOO_LONG)


class TestJina:
    client = Client(
        "Jina",
        "jina-haystack",
        "jina-haystack",
        """
from haystack.utils import Secret
from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder, JinaDocumentImageEmbedder
from haystack_integrations.components.embedders.jina import JinaTextEmbedder
from haystack_integrations.components.rankers.jina import JinaRanker

server = {"model": "sightword-small", "api_key": Secret.from_token("any")}
embeddings = {"base_url": "http://localhost:8000/v1/embeddings", **server}
text_embedder, document_embedder = JinaTextEmbedder(**embeddings), JinaDocumentEmbedder(**embeddings)
image_embedder = JinaDocumentImageEmbedder(**embeddings)
ranker = JinaRanker(base_url="http://localhost:8000/v1/rerank", **server)
""",
        "`base_url` is the whole URL",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_images(self, here: Any, vectors: Any) -> None:
        check_images(here, vectors)

    def test_rerank(self, here: Any) -> None:
        check_rerank(here)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.text_embedder.run(TOO_LONG)


class TestTei:
    client = Client(
        "Text Embeddings Inference",
        "huggingface-api-haystack",
        "huggingface-api-haystack",
        """
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPIDocumentEmbedder
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPITextEmbedder
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

server = {"api_type": "text_embeddings_inference", "api_params": {"url": "http://localhost:8000/tei"}}
text_embedder, document_embedder = HuggingFaceAPITextEmbedder(**server), HuggingFaceAPIDocumentEmbedder(**server)
ranker = HuggingFaceTEIRanker(url="http://localhost:8000/tei")
""",
        "texts only; cuts long texts unless `truncate=False`; `http://localhost:8000/tei/embed` works as well",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_rerank(self, here: Any) -> None:
        check_rerank(here)


class TestCohere:
    client = Client(
        "Cohere",
        "cohere-haystack",
        "cohere-haystack",
        """
from haystack.utils import Secret
from haystack_integrations.components.embedders.cohere import CohereDocumentEmbedder
from haystack_integrations.components.embedders.cohere import CohereDocumentImageEmbedder, CohereTextEmbedder
from haystack_integrations.components.rankers.cohere import CohereRanker

server = {"model": "sightword-small", "api_base_url": "http://localhost:8000", "api_key": Secret.from_token("any")}
text_embedder, document_embedder = CohereTextEmbedder(**server), CohereDocumentEmbedder(**server)
image_embedder, ranker = CohereDocumentImageEmbedder(**server), CohereRanker(**server)
""",
        'cuts long texts unless `truncate="NONE"`',
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        check_texts(here, vectors)

    def test_images(self, here: Any, vectors: Any) -> None:
        check_images(here, vectors)

    def test_rerank(self, here: Any) -> None:
        check_rerank(here)
