"""The client of Cohere."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from model.bundle import Bundle
from tests.service import pictures

cohere = pytest.importorskip("cohere", reason="pip install cohere")
CAT = f"data:image/jpeg;base64,{pictures.as_base64('cat')}"


@pytest.fixture
def v2(service: Running) -> Any:
    return cohere.ClientV2(api_key="not-checked", base_url=service.url)


def native(client: httpx.Client, *inputs: Any) -> Any:
    data = client.post("/embed", json={"inputs": list(inputs)}).json()["data"]
    return np.array([entry["embedding"] for entry in data])


def test_embed(v2: Any, client: httpx.Client, bundle: Bundle) -> None:
    options = {"model": bundle.id, "input_type": "search_document", "embedding_types": ["float"]}
    texts = v2.embed(texts=["a cat", "a dog"], **options)
    np.testing.assert_allclose(texts.embeddings.float_, native(client, "a cat", "a dog"), atol=1e-6)
    images = v2.embed(images=[CAT], **options)
    np.testing.assert_allclose(images.embeddings.float_, native(client, {"image": CAT}), atol=1e-6)
    parts = [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": CAT}}]
    mixed = v2.embed(inputs=[{"content": parts}], **options)
    mean = native(client, "a cat", {"image": CAT}).sum(axis=0)
    np.testing.assert_allclose(mixed.embeddings.float_[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_version_1(service: Running, client: httpx.Client, bundle: Bundle) -> None:
    v1 = cohere.Client(api_key="not-checked", base_url=service.url)
    answer = v1.embed(texts=["a cat"], model=bundle.id, input_type="search_query")
    np.testing.assert_allclose(answer.embeddings, native(client, "a cat"), atol=1e-6)
    assert v1.rerank(query="a cat", documents=["a dog", "a cat"], model=bundle.id).results[0].index == 1


def test_rerank(v2: Any, bundle: Bundle) -> None:
    answer = v2.rerank(query="a cat", documents=["a dog", "a cat"], model=bundle.id, top_n=1)
    assert [each.index for each in answer.results] == [1]


def test_a_refusal_shows_its_sentence(v2: Any, bundle: Bundle) -> None:
    with pytest.raises(cohere.UnprocessableEntityError, match=r"texts\.0: This text is empty"):
        v2.embed(texts=[""], model=bundle.id, input_type="search_query", embedding_types=["float"])
