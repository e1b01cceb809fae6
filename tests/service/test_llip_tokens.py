"""An Llip bundle, served for real: all vectors of a picture on request, and what is said where one is asked for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from tests.service import pictures
from tests.service.browser import browsing
from tests.service.conftest import checking_client
from tests.service.llip import BAD, DIMENSIONS, IMAGES, PICTURES, TEXTS, TOKENS, Llip, close, post

Matrix = np.ndarray


@pytest.fixture
def client(llip_service: Running) -> Iterator[httpx.Client]:
    with checking_client(llip_service) as client:
        yield client


def embeddings(answer: Any) -> Matrix:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def test_the_tokens_of_pictures(client: httpx.Client, llip: Llip) -> None:
    expected = llip.tokens()
    answer = post(client, "/embed", inputs=IMAGES, output="tokens")
    close(embeddings(answer), expected)
    assert answer["usage"] == {"texts": 0, "tokens": 0, "images": 3}
    encoded = post(client, "/embed", inputs=IMAGES, output="tokens", encoding_format="base64")["data"]
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in encoded]
    close([each.reshape(TOKENS, DIMENSIONS) for each in decoded], expected)
    for name, factor in (("int8", 127 / np.abs(expected).max(axis=2, keepdims=True)), ("binary", None)):
        packed = embeddings(post(client, "/embed", inputs=IMAGES, output="tokens", encoding_format=name))
        whole = np.packbits(expected > 0, axis=2).astype(int) - 128 if factor is None else expected * factor
        np.testing.assert_allclose(packed, whole, atol=1)
    for accept in ("application/x-npy", "application/octet-stream"):
        content = client.post("/embed", json={"inputs": IMAGES, "output": "tokens"}, headers={"accept": accept}).content
        array = np.load(io.BytesIO(content), allow_pickle=False) if "npy" in accept else np.frombuffer(content, "<f4")
        close(array.reshape(3, TOKENS, DIMENSIONS), expected)
        assert array.shape == (3, TOKENS, DIMENSIONS) or accept.endswith("stream")


def test_files_and_forms_ask_for_tokens_in_the_query_or_a_field(client: httpx.Client, llip: Llip) -> None:
    file = pictures.read("cat")
    expected = llip.tokens(["cat"])
    raw = client.post("/embed?output=tokens", content=file, headers={"content-type": "image/png"})
    form = client.post("/embed", files={"file": file}, data={"output": "tokens"})
    instances = post(client, "/invocations", instances=IMAGES[:1], parameters={"output": "tokens"})
    close(embeddings(raw.json()), expected)
    close(embeddings(form.json()), expected)
    close([instances["predictions"][0]["embedding"]], expected)


def test_a_text_among_pictures_has_a_list_of_one(client: httpx.Client, llip: Llip) -> None:
    data = post(client, "/embed", inputs=[TEXTS[0], IMAGES[0], BAD], output="tokens", on_error="item")["data"]
    close(data[0]["embedding"], llip.texts(TEXTS[:1]))
    close(data[1]["embedding"], llip.tokens(["cat"])[0])
    assert data[2]["error"]["code"] == "invalid_image"
    body = {"inputs": [TEXTS[0], IMAGES[0]], "output": "tokens"}
    refused = client.post("/embed", json=body, headers={"accept": "application/x-npy"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "inputs")
    texts = client.post("/embed", json={**body, "inputs": TEXTS}, headers={"accept": "application/x-npy"})
    close(np.load(io.BytesIO(texts.content), allow_pickle=False), llip.texts(TEXTS)[:, None])


def test_tokens_are_whole(client: httpx.Client) -> None:
    error = post(client, "/embed", 422, inputs=IMAGES, output="tokens", dimensions=8)["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "dimensions")
    whole = post(client, "/embed", inputs=IMAGES, output="tokens", dimensions=DIMENSIONS)
    assert embeddings(whole).shape == (3, TOKENS, DIMENSIONS)
    assert embeddings(post(client, "/embed", inputs="a", dimensions=8)).shape == (1, 8)


@pytest.mark.parametrize("value", ["token", "", None, 5, ["tokens"], True])
def test_other_outputs_name_the_field(client: httpx.Client, value: Any) -> None:
    error = post(client, "/embed", 422, inputs="a", output=value)["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "output")


URI = f"data:image/png;base64,{pictures.as_base64('cat')}"
CAT = pictures.as_base64("cat")
PART = {"content": [{"type": "text", "text": "a"}, {"type": "image_base64", "image_base64": CAT}]}
URL_PART = {"type": "image_url", "image_url": {"url": URI}}
ONE_VECTOR: dict[str, tuple[Any, str]] = {  # by path: a body that asks for one vector of a picture, and its field
    "/embed": ({"inputs": ["a", {"image": CAT}]}, "inputs.1.image"),
    "/v1/embeddings": ({"input": ["a", {"image": CAT}]}, "input.1.image"),
    "/embeddings": ({"input": [{"image": CAT}]}, "input.0.image"),
    "/v1/embed": ({"images": [URI], "input_type": "image", "model": "llip"}, "images.0"),
    "/v2/embed": ({"inputs": [{"content": [URL_PART]}], "model": "llip"}, "inputs.0.content.0.image_url"),
    "/v1/multimodalembeddings": ({"inputs": [PART]}, "inputs.0.content.1.image_base64"),
    "/vectorize": ({"texts": ["a"], "images": [CAT]}, "images.0"),
    "/api/embed": ({"model": "llip", "input": ["a", URI]}, "input.1"),
    "/api/embeddings": ({"model": "llip", "prompt": URI}, "prompt"),
    "/tei/embed": ({"inputs": URI}, "inputs"),
    "/clip/embed_image": ({"image": {"type": "base64", "value": CAT}}, "image"),
    "/v2/models/llip/infer": (
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [CAT]}]},
        "inputs",
    ),
    "/invocations": ({"instances": [{"image": CAT}]}, "instances.0.image"),
}


@pytest.mark.parametrize("path", ONE_VECTOR)
def test_where_one_vector_is_asked_for_the_error_says_what_to_do(client: httpx.Client, path: str) -> None:
    body, param = ONE_VECTOR[path]
    response = client.post(path, json=body)  # the client checks that the error has the form of its API
    assert response.status_code == 422, response.text
    assert '\\"output\\": \\"tokens\\"' in response.text
    assert "/classify" in response.text
    assert param in response.text


def test_immich_is_told_too(client: httpx.Client) -> None:
    entries = '{"clip": {"visual": {"modelName": "llip"}}}'
    response = client.post("/predict", files={"image": pictures.read("cat")}, data={"entries": entries})
    assert response.status_code == 422, response.text
    assert "3 vectors of a picture" in response.text


def test_a_picture_that_is_refused_leaves_its_batch_mates(client: httpx.Client, llip: Llip) -> None:
    data = post(client, "/embed", inputs=[TEXTS[0], IMAGES[0]], on_error="item")["data"]
    close(data[0]["embedding"], llip.texts(TEXTS[:1])[0])
    assert data[1]["error"]["code"] == "unsupported_modality"


def test_lists_say_how_many_vectors(client: httpx.Client) -> None:
    for path in ("/info", "/models"):
        [model] = client.get(path).json()["models"]
        assert model["mixture"] == {"tokens": TOKENS, "heads": 2}
        assert model["dimensions"] == DIMENSIONS
    assert client.get("/v1/models").json()["data"][0]["mixture_tokens"] == TOKENS
    assert "image_embed" not in client.get("/models").json()["data"][0]["capabilities"]
    assert client.get("/props").json()["modalities"]["vision"] is False
    assert [each["name"] for each in client.get("/v2/models/llip").json()["inputs"]] == ["text"]


def test_the_page_shows_all_vectors_of_a_picture(llip_service: Running) -> None:
    with browsing() as page:
        page.open(f"{llip_service.url}/")
        page.wait(lambda: page.one("#state-text").text == "ready")
        page.one("#tab-embed").click()
        page.wait(lambda: page.one("#tokens-hint").is_displayed())
        assert not page.one("#dimensions").is_displayed()
        page.choose_files(*(pictures.FILES[name] for name in PICTURES[:2]))
        page.one("#embed .primary").click()
        page.wait(lambda: len(page.all("#embed-outcome .vector")) == 2)
        assert f"{TOKENS} vectors · {DIMENSIONS} dimensions" in page.texts("#embed-outcome .hint")[0]
        assert len(page.all("#embed-outcome .drawing")) == 2 * TOKENS
        assert "output=tokens" in page.one("#embed-snippet").text
        page.one("#embed [value=texts]").click()
        assert page.one("#dimensions").is_displayed()
        page.one("#embed .primary").click()
        page.wait(lambda: page.texts("#embed-outcome .name") == ["a cup of coffee", "a motorcycle"])
        assert not page.errors()
