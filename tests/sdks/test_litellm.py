"""LiteLLM, by the prefix of the model's name: it writes a request as each provider wants it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import DATA_URI, IMAGE, MANY, REFUSAL, TEXTS, TOO_LONG, same


class Embeds:
    """What all of them do."""

    def embed(self, here: Any, inputs: Any) -> list[Any]:
        answer = here.litellm.embedding(input=inputs, **here.options)
        return [entry["embedding"] for entry in answer.data]

    def check_refusal(self, here: Any) -> None:
        with pytest.raises(here.litellm.BadRequestError, match=REFUSAL):
            self.embed(here, [TOO_LONG])

    def rerank(self, here: Any) -> list[int]:
        documents = ["a dog", "a photo of a cat", "a rocket"]
        answer = here.litellm.rerank(query="a cat", documents=documents, **here.rerank)
        return [result["index"] for result in answer.results]


class TestOpenAI(Embeds):
    client = Client(
        "OpenAI",
        "litellm, `openai/`",
        "litellm",
        """
import litellm

options = {"model": "openai/sightword-small", "api_base": "http://localhost:8000/v1", "api_key": "any"}
""",
        "also as `nvidia_nim/` and `hosted_vllm/`",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, [DATA_URI]), vectors(IMAGE))

    def test_600_inputs(self, here: Any) -> None:
        assert len(self.embed(here, MANY)) == len(MANY)

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)


class TestNvidia(Embeds):
    client = Client(
        "OpenAI",
        "litellm, `nvidia_nim/`",
        "litellm",
        """
import litellm

options = {"model": "nvidia_nim/sightword-small", "api_base": "http://localhost:8000/v1", "api_key": "any"}
""",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, [DATA_URI]), vectors(IMAGE))


class TestVllm(Embeds):
    client = Client(
        "OpenAI",
        "litellm, `hosted_vllm/`",
        "litellm",
        """
import litellm

options = {"model": "hosted_vllm/sightword-small", "api_base": "http://localhost:8000/v1", "api_key": "any"}
rerank = options
""",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_rerank(self, here: Any) -> None:
        assert self.rerank(here)[0] == 1


class TestJina(Embeds):
    client = Client(
        "Jina",
        "litellm, `jina_ai/`",
        "litellm",
        """
import litellm

options = {"model": "jina_ai/sightword-small", "api_base": "http://localhost:8000/v1", "api_key": "any"}
rerank = {**options, "api_base": "http://localhost:8000"}
""",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, [DATA_URI]), vectors(IMAGE))

    def test_rerank(self, here: Any) -> None:
        assert self.rerank(here)[0] == 1

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)


class TestVoyage(Embeds):
    client = Client(
        "Voyage",
        "litellm, `voyage/`",
        "litellm",
        """
import litellm

options = {"model": "voyage/sightword-small", "api_base": "http://localhost:8000/v1", "api_key": "any"}
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)


class TestCohere(Embeds):
    client = Client(
        "Cohere",
        "litellm, `cohere/`",
        "litellm",
        """
import litellm

options = {"model": "cohere/sightword-small", "api_base": "http://localhost:8000/v2/embed", "api_key": "any"}
rerank = {**options, "api_base": "http://localhost:8000"}
""",
        "to embed it wants the whole URL, to rerank the base; an image goes alone in a request",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, [DATA_URI]), vectors(IMAGE))

    def test_rerank(self, here: Any) -> None:
        assert self.rerank(here)[0] == 1

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)


class TestInfinity(Embeds):
    client = Client(
        "Infinity",
        "litellm, `infinity/`",
        "litellm",
        """
import litellm

options = {"model": "infinity/sightword-small", "api_base": "http://localhost:8000", "api_key": "any"}
rerank = options
""",
        "at the root: below /v1 a document is an object, which this client does not read",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        answer = here.litellm.embedding(input=[DATA_URI], extra_body={"modality": "image"}, **here.options)
        same([entry["embedding"] for entry in answer.data], vectors(IMAGE))

    def test_rerank(self, here: Any) -> None:
        assert self.rerank(here)[0] == 1

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)


class TestTei(Embeds):
    client = Client(
        "Text Embeddings Inference",
        "litellm, `huggingface/`",
        "litellm",
        """
import litellm

rerank = {"model": "huggingface/sightword-small", "api_base": "http://localhost:8000/tei", "api_key": "any"}
""",
        "asks the hub about the model's name, too, in vain; embedding needs its answer, and does not work",
    )

    def test_rerank(self, here: Any, asked: list[str]) -> None:
        assert self.rerank(here)[0] == 1
        assert {*asked} <= {"huggingface.co"}
        asked.clear()


class TestOllama(Embeds):
    client = Client(
        "Ollama",
        "litellm, `ollama/`",
        "litellm",
        """
import litellm

options = {"model": "ollama/sightword-small", "api_base": "http://localhost:8000"}
""",
        "texts only",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(self.embed(here, TEXTS), vectors(*TEXTS))

    def test_refusals(self, here: Any) -> None:
        self.check_refusal(here)
