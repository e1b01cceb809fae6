"""/tei, as clients of Text Embeddings Inference ask (router/src/http, commit 0d124dc)."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from model.bundle import Bundle
from tests.service import pictures

CAT = f"data:image/jpeg;base64,{pictures.as_base64('cat')}"


def native(client: httpx.Client, *inputs: Any, **options: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": list(inputs), **options}).json()["data"]
    return [entry["embedding"] for entry in data]


@pytest.mark.parametrize("path", ["/tei", "/tei/", "/tei/embed"])
def test_rows_come_bare(path: str, client: httpx.Client) -> None:
    request = {"inputs": ["a cat", CAT], "truncate": None, "prompt_name": None, "normalize": True}
    assert client.post(path, json=request).json() == native(client, "a cat", {"image": CAT})
    assert client.post(path, json={"inputs": "a cat"}).json() == native(client, "a cat")


def test_its_options(client: httpx.Client) -> None:
    long = " ".join(f"word {number}" for number in range(100))
    refusal = client.post("/tei/embed", json={"inputs": long}).json()
    assert (refusal["code"], refusal["error_type"]) == ("text_too_long", "invalid_request_error")
    ends = [
        client.post("/tei/embed", json={"inputs": long, "truncate": True, "truncation_direction": side}).json()
        for side in ("right", "Left")
    ]
    assert ends[0] == native(client, long, truncate=True)
    assert ends[1] != ends[0]
    assert client.post("/tei/embed", json={"inputs": "a", "dimensions": 16}).json() == native(
        client, "a", dimensions=16
    )
    uncut = client.post("/tei/embed", json={"inputs": "a", "dimensions": 16, "normalize": False}).json()
    assert uncut == native(client, "a", dimensions=16, normalize=False)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"inputs": ["a"], "prompt_name": "query"}, "prompt_name"),
        ({"inputs": [[1, 2]]}, "inputs.0"),
        ({"inputs": []}, "inputs"),
        ({"inputs": "a", "truncation_direction": "up"}, "truncation_direction"),
    ],
)
def test_errors_are_a_string(request_: dict[str, Any], param: str, client: httpx.Client) -> None:
    answer = client.post("/tei/embed", json=request_)
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert answer.json()["error"].startswith(f"{param}: ")


def test_rerank(client: httpx.Client) -> None:
    texts = ["a dog", "a cat", "a car"]
    ranks = client.post("/tei/rerank", json={"query": "a cat", "texts": texts, "return_text": True}).json()
    expected = client.post("/v1/rerank", json={"query": "a cat", "documents": texts}).json()["results"]
    assert [(each["index"], each["score"]) for each in ranks] == [
        (each["index"], each["relevance_score"]) for each in expected
    ]
    assert [each["text"] for each in ranks] == [texts[each["index"]] for each in ranks]
    [raw, *_] = client.post("/tei/rerank", json={"query": "a cat", "texts": texts, "raw_scores": True}).json()
    query, cat = np.array(native(client, "a cat", "a cat"))
    assert raw == {"index": 1, "score": pytest.approx(float(query @ cat), abs=1e-5)}


def test_info(client: httpx.Client, bundle: Bundle) -> None:
    info = client.get("/tei/info").json()
    assert (info["model_id"], info["max_input_length"]) == (bundle.id, bundle.context_length)
    assert info["max_client_batch_size"] == 2048


def test_tei_and_others_at_our_own_address_are_told_theirs(client: httpx.Client) -> None:
    for field, address in (("prompt_name", "/tei/embed"), ("input", "/v1/embeddings"), ("input_type", "/v2/embed")):
        answer = client.post("/embed", json={"inputs": ["a"], field: "x"}).json()["error"]
        assert answer["param"] == field
        assert address in answer["message"]
