"""/api/embed and its neighbours, as Ollama's client for Python, 0.6, asks."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from model import __version__
from model.bundle import Bundle


def native(client: httpx.Client, *inputs: Any, **options: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": list(inputs), **options}).json()["data"]
    return [entry["embedding"] for entry in data]


def test_embed(client: httpx.Client, bundle: Bundle) -> None:
    answer = client.post(
        "/api/embed", json={"model": bundle.id, "input": ["a cat", "a dog"], "keep_alive": "5m"}
    ).json()
    assert answer["embeddings"] == native(client, "a cat", "a dog")
    assert answer["prompt_eval_count"] == sum(map(len, bundle.tokenizer().encode(["a cat", "a dog"])))
    assert answer["total_duration"] > 0
    one = client.post("/api/embed", json={"model": f"{bundle.id}:latest", "input": "a cat", "dimensions": 16}).json()
    assert one["embeddings"] == native(client, "a cat", dimensions=16)
    assert one["model"] == f"{bundle.id}:latest"


def test_the_older_call(client: httpx.Client, bundle: Bundle) -> None:
    answer = client.post("/api/embeddings", json={"model": bundle.id, "prompt": "a cat"}).json()
    assert answer == {"embedding": native(client, "a cat")[0]}


def test_what_is_served(client: httpx.Client, bundle: Bundle) -> None:
    [tag] = client.get("/api/tags").json()["models"]
    assert (tag["name"], tag["digest"]) == (bundle.id, bundle.digest)
    assert client.get("/api/version").json() == {"version": __version__}


@pytest.mark.parametrize(
    ("request_", "status", "param"),
    [
        ({"model": "llama3", "input": "a"}, 404, "model"),
        ({"input": []}, 422, "input"),
        ({"input": "cat " * 200, "truncate": False}, 422, "input"),
        ({"input": "a", "dimensions": 10**6}, 422, "dimensions"),
    ],
)
def test_errors_are_a_string(request_: dict[str, Any], status: int, param: str, client: httpx.Client) -> None:
    answer = client.post("/api/embed", json=request_)
    assert (answer.status_code, answer.json()["param"]) == (status, param)
    assert answer.json()["error"].startswith(f"{param}: ")
