"""/v1/embed, /v2/embed and /v2/rerank, as Cohere's clients ask: bodies are those of its SDK for Python, 7.3.1."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from model.bundle import Bundle
from tests.service import pictures

CAT = f"data:image/jpeg;base64,{pictures.as_base64('cat')}"
ASKED = {"input_type": "search_document", "max_tokens": None, "priority": 0}


def ask(client: httpx.Client, path: str = "/v2/embed", **request: Any) -> dict[str, Any]:
    response = client.post(path, json={**ASKED, **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def native(client: httpx.Client, *inputs: Any, **options: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": list(inputs), **options}).json()["data"]
    return [entry["embedding"] for entry in data]


def refused(client: httpx.Client, path: str = "/v2/embed", **request: Any) -> tuple[str, str]:
    response = client.post(path, json={**ASKED, **request})
    assert response.status_code in (404, 422), response.text
    error = response.json()["error"]
    assert response.json()["message"].startswith(f"{error['param']}: ")
    return error["param"], error["code"]


def test_texts_and_images_get_the_vectors_of_embed(client: httpx.Client, bundle: Bundle) -> None:
    answer = ask(client, texts=["a cat", "a dog"], embedding_types=["float"])
    assert answer["embeddings"] == {"float": native(client, "a cat", "a dog")}
    assert answer["texts"] == ["a cat", "a dog"]
    tokens = sum(map(len, bundle.tokenizer().encode(["a cat", "a dog"])))
    assert answer["meta"] == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    images = ask(client, images=[CAT], input_type="image")
    assert images["embeddings"] == {"float": native(client, {"image": CAT})}
    assert images["meta"]["billed_units"] == {"images": 1}


def test_every_type(client: httpx.Client) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    found = ask(client, texts=["a cat"], embedding_types=types)["embeddings"]
    assert list(found) == types
    [vector] = np.array(found["float"], np.float32)
    for name in ("int8", "binary", "ubinary", "base64"):
        assert found[name] == native(client, "a cat", encoding_format=name)
    assert (np.array(found["uint8"]) == np.array(found["int8"]) + 128).all()
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(found["base64"][0]), "<f4"), vector)


def test_an_input_of_several_parts_is_their_mean_and_says_so(client: httpx.Client) -> None:
    text, image = {"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": {"url": CAT}}
    inputs = [{"content": [text, image]}, {"content": [text]}, {"content": [image]}]
    answer = ask(client, inputs=inputs, embedding_types=["float"])
    rows = np.array(answer["embeddings"]["float"])
    texts, images = np.array(native(client, "a cat", {"image": CAT}))
    mean = (texts + images) / np.linalg.norm(texts + images)
    np.testing.assert_allclose(rows, [mean, texts, images], atol=1e-6)
    [warning] = answer["meta"]["warnings"]
    assert warning.startswith("inputs.0: ")
    assert answer["meta"]["billed_units"]["images"] == 2


def test_dimensions_and_truncation(client: httpx.Client) -> None:
    [row] = ask(client, texts=["a cat"], output_dimension=16)["embeddings"]["float"]
    assert row == native(client, "a cat", dimensions=16)[0]
    long = "cat " * 200
    assert refused(client, texts=["a", long], truncate="NONE") == ("texts.1", "text_too_long")
    assert ask(client, texts=[long], truncate="END")["embeddings"]["float"] == native(client, long, truncate=True)


def test_version_1_gives_a_plain_list_unless_types_are_asked_for(client: httpx.Client) -> None:
    answer = ask(client, "/v1/embed", texts=["a cat"])
    assert answer["response_type"] == "embeddings_floats"
    assert answer["embeddings"] == native(client, "a cat")
    typed = ask(client, "/v1/embed", texts=["a cat"], embedding_types=["int8"])
    assert (typed["response_type"], list(typed["embeddings"])) == ("embeddings_by_type", ["int8"])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, ("texts", "invalid_request")),
        ({"texts": ["a"], "images": [CAT]}, ("images", "invalid_request")),
        ({"texts": []}, ("texts", "invalid_request")),
        ({"texts": ["a", ""]}, ("texts.1", "invalid_request")),
        ({"images": ["bad!"]}, ("images.0", "invalid_image")),
        ({"images": [{"url": CAT}]}, ("images.0", "invalid_request")),
        ({"inputs": [{"content": []}]}, ("inputs.0.content", "invalid_request")),
        ({"inputs": [{"content": [{"type": "text"}]}]}, ("inputs.0.content.0", "invalid_request")),
        ({"inputs": [{"content": [{"type": "video_url"}]}]}, ("inputs.0.content.0", "unsupported_modality")),
        (
            {"inputs": [{"content": [{"type": "image_url", "image_url": {"url": 1}}]}]},
            ("inputs.0.content.0.image_url.url", "invalid_request"),
        ),
        ({"texts": ["a"], "embedding_types": ["half"]}, ("embedding_types.0", "invalid_request")),
        ({"texts": ["a"], "output_dimension": 10**6}, ("output_dimension", "invalid_request")),
        ({"texts": ["a"], "truncate": "MIDDLE"}, ("truncate", "invalid_request")),
        ({"texts": ["a"], "model": "embed-v4.0"}, ("model", "model_not_found")),
    ],
)
def test_what_is_wrong_is_named(request_: dict[str, Any], expected: tuple[str, str], client: httpx.Client) -> None:
    assert refused(client, **request_) == expected


def test_parts_are_counted_over_all_inputs(narrow_client: httpx.Client) -> None:
    part = {"type": "text", "text": "a"}
    assert refused(narrow_client, inputs=[{"content": [part] * 17}] * 2) == ("inputs", "too_many_inputs")
    assert refused(narrow_client, images=["AAAA"] * 33) == ("images", "too_many_inputs")


def test_rerank_scores_as_the_first_version_does(client: httpx.Client) -> None:
    request = {"query": "a cat", "documents": ["a dog", "a cat", "a car"], "top_n": 2}
    first = client.post("/v1/rerank", json=request).json()["results"]
    second = ask(client, "/v2/rerank", **request, max_tokens_per_doc=4096)
    assert second["results"] == [{name: each[name] for name in ("index", "relevance_score")} for each in first]
    assert second["meta"]["billed_units"] == {"search_units": 1}
    assert [each["index"] for each in first] == [1, 0]
