"""Cohere's client, in both of its APIs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import DATA_URI, IMAGE, MANY, REFUSAL, TEXTS, TOO_LONG, same

OPTIONS = {"model": "sightword-small", "input_type": "search_document", "embedding_types": ["float"]}


class TestVersion2:
    client = Client(
        "Cohere",
        "cohere, `ClientV2`",
        "cohere",
        """
import cohere

client = cohere.ClientV2(api_key="any", base_url="http://localhost:8000")
""",
        "the base URL without a version; an input of several parts gets the mean of their vectors",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.embed(texts=TEXTS, **OPTIONS).embeddings.float_, vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(here.client.embed(images=[DATA_URI], **OPTIONS).embeddings.float_, vectors(IMAGE))

    def test_mixed_inputs(self, here: Any, vectors: Any) -> None:
        parts = [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": DATA_URI}}]
        answer = here.client.embed(inputs=[{"content": parts}], **OPTIONS)
        mean = vectors("a cat", IMAGE).sum(axis=0)
        same(answer.embeddings.float_[0], mean / np.linalg.norm(mean))

    def test_600_inputs(self, here: Any) -> None:
        assert len(here.client.embed(texts=MANY, **OPTIONS).embeddings.float_) == len(MANY)

    def test_rerank(self, here: Any) -> None:
        answer = here.client.rerank(query="a cat", documents=["a dog", "a cat"], model="sightword-small", top_n=1)
        assert [each.index for each in answer.results] == [1]

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(here.cohere.UnprocessableEntityError, match=REFUSAL):
            here.client.embed(texts=[TOO_LONG], **OPTIONS)


class TestVersion1:
    client = Client(
        "Cohere",
        "cohere, `Client`",
        "cohere",
        """
import cohere

client = cohere.Client(api_key="any", base_url="http://localhost:8000")
""",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        answer = here.client.embed(texts=TEXTS, model="sightword-small", input_type="search_query")
        same(answer.embeddings, vectors(*TEXTS))

    def test_rerank(self, here: Any) -> None:
        answer = here.client.rerank(query="a cat", documents=["a dog", "a cat"], model="sightword-small")
        assert answer.results[0].index == 1
