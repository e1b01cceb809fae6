"""Infinity's paths at the root (infinity_server.py, commit fcb951c), and llama.cpp's `content` as Frigate sends it."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from model.bundle import Bundle
from tests.service import pictures

CAT = pictures.as_base64("cat")


def native(client: httpx.Client, *inputs: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": list(inputs)}).json()["data"]
    return [entry["embedding"] for entry in data]


def test_embeddings_are_those_of_v1(client: httpx.Client, bundle: Bundle) -> None:
    for request in (
        {"input": ["a cat", f"data:image/jpeg;base64,{CAT}"], "model": bundle.id},
        {"input": [CAT], "modality": "image", "encoding_format": "base64"},
    ):
        root, v1 = (client.post(path, json=request).json() for path in ("/embeddings", "/v1/embeddings"))
        assert root == v1
        assert root["object"] == "list"


def test_a_document_is_a_string(client: httpx.Client) -> None:
    request = {"query": "a cat", "documents": ["a dog", "a cat"], "return_documents": True, "top_n": 1}
    answer = client.post("/rerank", json=request).json()
    expected = client.post("/v1/rerank", json=request).json()["results"][0]
    assert answer["results"] == [{**expected, "document": "a cat"}]
    assert answer["object"] == "rerank"
    bare = client.post("/rerank", json={**request, "return_documents": False}).json()
    assert bare["results"][0]["document"] is None


def test_content_of_llama_cpp(client: httpx.Client, bundle: Bundle) -> None:
    content = [
        {"prompt_string": "a cat"},
        {"prompt_string": "<__media__>\n", "multimodal_data": [CAT]},
        {"prompt_string": "a cat <__media__>", "multimodal_data": [CAT]},
        "a cat",
    ]
    answer = client.post("/embeddings", json={"model": bundle.id, "content": content}).json()
    assert [entry["index"] for entry in answer] == [0, 1, 2, 3]
    text, image = np.array(native(client, "a cat", {"image": CAT}))
    mean = (text + image) / np.linalg.norm(text + image)
    np.testing.assert_allclose([entry["embedding"] for entry in answer], [text, image, mean, text], atol=1e-6)
    assert client.get("/props").json()["media_marker"] == "<__media__>"


def test_texts_of_tei_at_the_root(client: httpx.Client) -> None:
    """huggingface-api-haystack 3.1 asks there, whatever the path of the URL that it was given."""
    request = {"query": "a cat", "texts": ["a dog", "a cat"], "raw_scores": False}
    for options in ({}, {"return_text": True}, {"truncate": True, "truncation_direction": "Left"}):
        found = client.post("/rerank", json={**request, **options}).json()
        assert found == client.post("/tei/rerank", json={**request, **options}).json()
    long = " ".join(f"word {number}" for number in range(100))
    cut = [client.post(path, json={**request, "query": long, **options}).json() for path in ("/rerank", "/tei/rerank")]
    assert cut[0] == cut[1]


@pytest.mark.parametrize("others", [{}, {"documents": ["a"], "texts": ["a"]}])
def test_rerank_wants_documents_or_texts(others: dict[str, Any], client: httpx.Client) -> None:
    refused = client.post("/rerank", json={"query": "a", **others})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "documents")


def test_models_of_infinity_stand_beside_ours(client: httpx.Client, bundle: Bundle) -> None:
    """infinity_client 0.0.78 reads `data`, and of each model `stats`."""
    answer = client.get("/models").json()
    assert answer["models"] == client.get("/info").json()["models"]
    [model] = answer["data"]
    assert (answer["object"], model["id"], model["owned_by"]) == ("list", bundle.id, "infinity")
    assert model["stats"].keys() == {"queue_fraction", "queue_absolute", "results_pending", "batch_size"}
    assert {"embed", "image_embed", "rerank"} <= {*model["capabilities"]}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": "a", "content": "a"}, "input"),
        ({"content": []}, "content"),
        ({"content": [{"prompt_string": ""}]}, "content.0.prompt_string"),
        ({"content": [{"multimodal_data": [CAT]}]}, "content.0"),
        ({"content": {"prompt_string": "<__media__>", "multimodal_data": ["bad!"]}}, "content.multimodal_data.0"),
    ],
)
def test_what_is_wrong_is_named(request_: dict[str, Any], param: str, client: httpx.Client) -> None:
    answer = client.post("/embeddings", json=request_)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert answer.json()["message"].startswith(f"{param}: ")
    [detail] = answer.json()["detail"]  # which infinity_client 0.0.78 reads, and fails on a string
    assert ".".join(map(str, detail["loc"])) == f"body.{param}"
    assert detail["msg"] == answer.json()["error"]["message"]
