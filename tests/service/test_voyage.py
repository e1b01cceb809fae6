"""/v1/multimodalembeddings, and Voyage's names on /v1/embeddings, as its client for Python, 0.5, asks."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np

from model.bundle import Bundle
from tests.service import pictures

CAT = pictures.as_base64("cat")
TEXT = {"type": "text", "text": "a cat"}
IMAGE = {"type": "image_base64", "image_base64": f"data:image/jpeg;base64,{CAT}"}


def native(client: httpx.Client, *inputs: Any, **options: Any) -> Any:
    data = client.post("/embed", json={"inputs": list(inputs), **options}).json()["data"]
    return np.array([entry["embedding"] for entry in data], np.float32)


def test_inputs_of_one_part_and_of_several(client: httpx.Client, bundle: Bundle) -> None:
    request = {"inputs": [{"content": [TEXT]}, {"content": [IMAGE, TEXT]}], "model": bundle.id, "input_type": "query"}
    answer = client.post("/v1/multimodalembeddings", json=request).json()
    rows = np.array([entry["embedding"] for entry in answer["data"]])
    text, image = native(client, "a cat", {"image": CAT})
    np.testing.assert_allclose(rows, [text, (text + image) / np.linalg.norm(text + image)], atol=1e-6)
    assert answer["usage"].keys() == {"text_tokens", "image_pixels", "video_pixels", "total_tokens"}
    assert [entry["index"] for entry in answer["data"]] == [0, 1]


def test_its_options(client: httpx.Client) -> None:
    request = {"inputs": [{"content": [TEXT]}], "output_encoding": "base64", "output_dimension": 16}
    [entry] = client.post("/v1/multimodalembeddings", json=request).json()["data"]
    found = np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
    np.testing.assert_array_equal(found, native(client, "a cat", dimensions=16)[0])
    long = {"inputs": [{"content": [{"type": "text", "text": "cat " * 200}]}]}
    refused = client.post("/v1/multimodalembeddings", json={**long, "truncation": False})
    assert refused.json()["detail"].startswith("inputs.0.content.0.text: ")
    assert client.post("/v1/multimodalembeddings", json={**long, "truncation": True}).status_code == 200


def test_its_names_for_the_options_of_texts(client: httpx.Client) -> None:
    request = {"input": ["cat " * 200], "truncation": True, "output_dimension": 16, "output_dtype": "int8"}
    [entry] = client.post("/v1/embeddings", json=request).json()["data"]
    expected = client.post(
        "/embed", json={"inputs": request["input"], "truncate": True, "dimensions": 16, "encoding_format": "int8"}
    ).json()["data"]
    assert entry["embedding"] == expected[0]["embedding"]


def test_rerank_answers_as_voyage_where_top_k_is_sent(client: httpx.Client, bundle: Bundle) -> None:
    """Its client sends top_k always, null where it was not chosen, and reads `data`."""
    request = {"query": "a cat", "documents": ["a dog", "a cat"], "model": bundle.id, "truncation": True}

    def ask(**options: Any) -> Any:
        return client.post("/v1/rerank", json={**request, **options}).json()

    results = client.post("/v1/rerank", json=request).json()["results"]
    assert ask(top_k=None)["data"] == results
    assert ask(top_k=1)["data"] == results[:1]
    assert ask(top_k=1, return_documents=True)["data"] == [{**results[0], "document": "a cat"}]
    assert ask(top_k=1)["usage"]["total_tokens"] > 0
