"""Texts of any length are cut where that is asked for, on every route, and not in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import running
from service.settings import MAX_TEXT_CHARACTERS
from tests.service import pictures

LONG, CUT = "cat dog " * 2_000, "cat dog " * 100  # 16,000 characters; both are longer than the context
CAT = {"image": pictures.as_base64("cat")}

# What is asked with a text, and that part of the answer that depends on it.
ROUTES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/embed": lambda text: {"inputs": ["a", text, {"text": text}]},
    "/similarity": lambda text: {"queries": [text, "a"], "candidates": [text, "b"], "top_k": 1},
    "/classify": lambda text: {"inputs": [text, CAT], "labels": ["a", text + "!", "b"]},
    "/v1/embeddings": lambda text: {"input": ["a", text]},
    "/v1/classify": lambda text: {"input": [text, CAT], "labels": ["a", text + "!", "b"]},
    "/v1/embed": lambda text: {"texts": ["a", text]},
    "/v2/embed": lambda text: {"inputs": [{"content": [{"type": "text", "text": text}]}]},
    "/v2/rerank": lambda text: {"query": text, "documents": ["a", text, CAT]},
    "/v1/multimodalembeddings": lambda text: {"inputs": [{"content": [{"type": "text", "text": text}]}]},
    "/api/embed": lambda text: {"input": ["a", text]},
    "/api/embeddings": lambda text: {"prompt": text},
    "/tei": lambda text: {"inputs": text},
    "/tei/embed": lambda text: {"inputs": ["a", text]},
    "/tei/rerank": lambda text: {"query": text, "texts": ["a", text]},
    "/embeddings": lambda text: {"input": ["a", text]},
    "/rerank": lambda text: {"query": text, "documents": ["a", text, CAT]},
    "/invocations": lambda text: {"inputs": ["a", text]},
    "/v1/rerank": lambda text: {"query": text, "documents": ["a", text, CAT]},
}


@pytest.fixture(scope="module")
def cutting(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that cuts where a request does not say."""
    with (
        running(tmp_path_factory.mktemp("cutting"), bundle_path, truncate="true") as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        yield client


def numbers(answer: Any) -> list[float]:
    """All of an answer, without what the texts themselves are in, and what differs from request to request."""
    if isinstance(answer, dict):
        return [
            number for name in answer if name not in ("total_duration", "created") for number in numbers(answer[name])
        ]
    if isinstance(answer, list):
        return [number for value in answer for number in numbers(value)]
    return [] if answer is None or isinstance(answer, str) else [float(answer)]


def code_of(answer: httpx.Response) -> Any:
    """In any of the shapes of errors."""
    body = answer.json()
    return body["code"] if isinstance(body["error"], str) else body["error"]["code"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_long_text_is_answered_as_the_cut_one(client: httpx.Client, cutting: httpx.Client, path: str) -> None:
    answers = [client.post(path, json={**ROUTES[path](text), "truncate": True}) for text in (LONG, CUT)]
    answers.append(cutting.post(path, json=ROUTES[path](LONG)))
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    first, *others = [numbers(answer.json()) for answer in answers]
    assert all(first == pytest.approx(other, abs=1e-5) for other in others)
    refused = (
        client.post(path, json=ROUTES[path](LONG)),
        cutting.post(path, json={**ROUTES[path](LONG), "truncate": False}),
    )
    assert [code_of(answer) for answer in refused] == ["text_too_long"] * 2


def test_what_was_cut_is_told(client: httpx.Client) -> None:
    answer = client.post("/embed", json={"inputs": ["a", LONG, CUT], "truncate": True}).json()
    assert [entry["truncated"] for entry in answer["data"]] == [False, True, True]
    assert answer["usage"]["tokens"] == 3 + 77 + 77


def test_a_form_and_a_label_set_and_a_task_are_cut_too(client: httpx.Client) -> None:
    form = client.post("/embed", files=[("text", (None, LONG)), ("truncate", (None, "true"))])
    assert form.json()["data"][0]["truncated"]
    stored = client.put("/label-sets/long", json={"labels": ["a", LONG], "truncate": True})
    assert stored.status_code in (200, 201), stored.text
    assert client.post("/classify", json={"inputs": CAT, "label_set": "long"}).status_code == 200
    name = client.get("/info").json()["models"][0]["id"]
    task = {"inputs": CAT["image"], "parameters": {"candidate_labels": ["a", LONG], "truncate": True}}
    assert client.post(f"/models/{name}", json=task).status_code == 200


def test_megabytes_are_cut_as_well(client: httpx.Client) -> None:
    texts = ["cat dog " * 1_000_000, " " * 3_000_000 + "cat " * 100, "é\n" * 1_000_000]
    answer = client.post("/embed", json={"inputs": texts, "truncate": True}).json()
    assert all(entry["truncated"] for entry in answer["data"])
    short = client.post(
        "/embed", json={"inputs": ["cat dog " * 100, "cat " * 100, "é\n" * 500], "truncate": True}
    ).json()
    for one, other in zip(answer["data"], short["data"], strict=True):
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)


def test_what_lies_beyond_what_is_read_is_told(client: httpx.Client) -> None:
    text = "cat" + " " * MAX_TEXT_CHARACTERS + "dog"
    [entry] = client.post("/embed", json={"inputs": text, "truncate": True}).json()["data"]
    assert entry["truncated"]
    [blank] = client.post("/embed", json={"inputs": "cat" + " " * MAX_TEXT_CHARACTERS}).json()["data"]
    assert not blank["truncated"]
