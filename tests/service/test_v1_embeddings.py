"""POST /v1/embeddings in the dialects of OpenAI, Jina and Infinity, and GET /v1/models."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from tests.service import pictures

CAT = pictures.as_base64("cat")
ROCKET = pictures.as_base64("rocket")
LONG_TEXT = "an astonishingly long description of a photograph " * 20
Matrix = NDArray[np.float32]


def ask(client: httpx.Client, **request: Any) -> list[Any]:
    """The embeddings as they came, in order."""
    response = client.post("/v1/embeddings", json=request)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return [entry["embedding"] for entry in data]


def refused(client: httpx.Client, status: int = 422, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/embeddings", json=request)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def native(client: httpx.Client, inputs: Any, **options: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": inputs, **options}).json()["data"]
    return [entry["embedding"] for entry in data]


def same(found: list[Any], expected: list[Any]) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-5)


def test_an_answer_has_the_fields_of_openai_and_no_others(client: httpx.Client, bundle: Bundle) -> None:
    texts = ["a cat", "a photo of a dog"]
    answer = client.post("/v1/embeddings", json={"model": bundle.id, "input": texts}).json()
    tokens = sum(map(len, bundle.tokenizer().encode(texts)))
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", bundle.id)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [entry.keys() for entry in answer["data"]] == [{"object", "index", "embedding"}] * 2
    assert {entry["object"] for entry in answer["data"]} == {"embedding"}


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a cat", "a cat"),
        (["a cat", "a dog"], ["a cat", "a dog"]),
        ({"text": "a cat"}, "a cat"),
        ([{"image": CAT}, "a dog", {"text": "a cat"}], [{"image": CAT}, "a dog", "a cat"]),
        ([{"bytes": CAT}, {"image": f"data:image/png;base64,{CAT}"}], [{"image": CAT}, {"image": CAT}]),
        ([{"text": "a cat", "image": None, "audio": None, "id": 7}], ["a cat"]),
    ],
)
def test_items_get_the_vectors_of_embed(client: httpx.Client, given: Any, inputs: Any) -> None:
    same(ask(client, input=given), native(client, inputs))


def test_with_the_modality_of_infinity_strings_are_images(client: httpx.Client) -> None:
    expected = native(client, [{"image": CAT}, {"image": ROCKET}, "a cat"])
    given = [CAT, f"data:image/jpeg;base64,{ROCKET}", {"text": "a cat"}]
    same(ask(client, input=given, modality="image", model="default/not-specified", dimensions=0), expected)
    same(ask(client, input=CAT, modality="image"), expected[:1])
    same(ask(client, input="a cat", modality="text"), expected[2:])
    error = refused(client, input=["https://example.com/cat.jpg"], modality="image")
    assert (error["code"], error["param"]) == ("url_not_allowed", "input.0")
    error = refused(client, input=["a cat"], modality="image")
    assert (error["code"], error["param"]) == ("invalid_image", "input.0")


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"input": "data:audio/wav;base64,AAAA", "modality": "audio"}, "modality"),
        ({"input": ["a cat", {"audio": "AAAA"}]}, "input.1.audio"),
        ({"input": {"pdf": "AAAA"}}, "input.pdf"),
    ],
)
def test_what_no_tower_reads(client: httpx.Client, request_: dict[str, Any], param: str) -> None:
    error = refused(client, **request_)
    assert (error["code"], error["param"]) == ("unsupported_modality", param)


@pytest.mark.parametrize("name", ["float", "base64", "int8", "binary", "ubinary"])
def test_encodings_are_those_of_embed_by_either_name(client: httpx.Client, name: str) -> None:
    expected = native(client, ["a cat", {"image": CAT}], encoding_format=name)
    given = ["a cat", {"image": CAT}]
    assert ask(client, input=given, encoding_format=name) == expected
    assert ask(client, input=given, embedding_type=name, encoding_format="base64") == expected
    assert ask(client, input=given, embedding_type=[name]) == expected
    assert ask(client, input=given, encoding_type=name) == expected


def test_several_encodings_at_once(client: httpx.Client) -> None:
    [vector] = ask(client, input="a cat", embedding_type=["float", "base64", "ubinary", "float"], dimensions=16)
    assert vector.keys() == {"float", "base64", "ubinary"}
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(vector["base64"]), "<f4"), vector["float"], atol=1e-6)
    assert len(vector["ubinary"]) == 2


@pytest.mark.parametrize("name", ["float", "base64"])
def test_a_long_list(client: httpx.Client, name: str) -> None:
    texts = [f"picture number {index}" for index in range(100)]
    assert ask(client, input=texts, encoding_format=name) == native(client, texts, encoding_format=name)


def test_dimensions(client: httpx.Client, bundle: Bundle) -> None:
    [whole] = ask(client, input="a cat")
    [cut] = ask(client, input="a cat", dimensions=16)
    [raw] = ask(client, input="a cat", dimensions=16, normalized=False)
    same(ask(client, input="a cat", dimensions=0), [whole])
    same(ask(client, input="a cat", dimensions=bundle.dimensions, normalized=True), [whole])
    assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-5)
    same(raw, whole[:16])
    same(cut, raw / np.linalg.norm(raw))
    assert refused(client, input="a cat", dimensions=bundle.dimensions + 1)["param"] == "dimensions"


def test_fields_without_a_meaning_are_taken_and_null_is_nothing(client: httpx.Client) -> None:
    ignored: dict[str, Any] = {"user": "me", "task": "retrieval.query", "input_type": "query", "late_chunking": False}
    nothing = dict.fromkeys(
        ("model", "modality", "encoding_format", "embedding_type", "dimensions", "normalized", "truncate", "user")
    )
    same(ask(client, input="a cat", **ignored), native(client, "a cat"))
    same(ask(client, input="a cat", **nothing), native(client, "a cat"))


@pytest.mark.parametrize(
    ("given", "param"),
    [([320, 8415], "input"), ([[320, 8415], [320]], "input.0"), (["a cat", [320]], "input.1")],
)
def test_token_ids_are_refused_with_the_cure(client: httpx.Client, given: Any, param: str) -> None:
    error = refused(client, input=given)
    assert (error["code"], error["param"]) == ("invalid_request", param)
    assert "check_embedding_ctx_length=False" in error["message"]
    assert "tokenizer" in error["message"]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a cat", " "]}, "input.1"),
        ({"input": ["a cat", True]}, "input.1"),
        ({"input": ["a", "b", "c", {"image": 5}]}, "input.3.image"),
        ({"input": ["a", {"image": ""}]}, "input.1.image"),
        ({"input": [{"text": "a", "image": CAT}]}, "input.0"),
        ({"input": [{"colour": "red"}]}, "input.0"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
        ({"input": "a", "dimensions": "16"}, "dimensions"),
        ({"input": "a", "encoding_format": "float64"}, "encoding_format"),
        ({"input": "a", "embedding_type": "float64"}, "embedding_type"),
        ({"input": "a", "embedding_type": ["float", {}]}, "embedding_type.1"),
        ({"input": "a", "embedding_type": []}, "embedding_type"),
        ({"input": "a", "modality": "smell"}, "modality"),
        ({"input": "a", "normalized": "yes"}, "normalized"),
        ({"input": "a", "model": 5}, "model"),
    ],
)
def test_wrong_fields_are_named(client: httpx.Client, request_: dict[str, Any], param: str) -> None:
    error = refused(client, **request_)
    assert (error["code"], error["param"]) == ("invalid_request", param)


def test_too_long_and_too_many(client: httpx.Client, narrow_client: httpx.Client) -> None:
    error = refused(client, input=["a cat", LONG_TEXT])
    assert (error["code"], error["param"]) == ("text_too_long", "input.1")
    same(ask(client, input=LONG_TEXT, truncate=True), native(client, LONG_TEXT, truncate=True))
    assert refused(narrow_client, input=["a cat"] * 33)["code"] == "too_many_inputs"


def test_an_unknown_model_is_refused(client: httpx.Client) -> None:
    error = refused(client, 404, input="a cat", model="text-embedding-3-small")
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_models(client: httpx.Client, bundle: Bundle) -> None:
    created = int(datetime.fromisoformat(bundle.manifest.created).timestamp())
    expected = {"id": bundle.id, "object": "model", "created": created, "owned_by": "sightword"}
    assert client.get("/v1/models").json() == {"object": "list", "data": [expected]}
    assert client.get(f"/v1/models/{bundle.id}").json() == expected
    for name in ("gpt-4", "someone/some-model", "someone%2Fsome-model"):
        refusal = client.get(f"/v1/models/{name}")
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (404, "model_not_found")


def test_messages_of_vllm_get_one_vector(client: httpx.Client) -> None:
    """As in its documentation of embeddings of chats (openai_chat_embedding_client_for_multimodal.py)."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CAT}"}}
    text = {"type": "text", "text": "a cat"}
    alone = ask(client, messages=[{"role": "user", "content": [image]}], encoding_format="float")
    same(alone, native(client, {"image": CAT}))
    same(ask(client, messages=[{"role": "user", "content": "a cat"}]), native(client, "a cat"))
    mean = np.sum(native(client, [{"image": CAT}, "a cat"]), axis=0)
    for messages in (
        [{"role": "user", "content": [image, text]}],
        [{"content": [image]}, {"role": "user", "content": "a cat"}],
    ):
        same(ask(client, messages=messages), [mean / np.linalg.norm(mean)])


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "input"),
        ({"messages": []}, "messages"),
        ({"messages": "a"}, "messages"),
        ({"messages": ["a"]}, "messages.0"),
        ({"messages": [{"role": "system", "content": "Represent the image."}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages.0.content.0"),
    ],
)
def test_messages_that_are_none(request_: dict[str, Any], param: str, client: httpx.Client) -> None:
    assert refused(client, **request_)["param"] == param
