"""An Llip bundle, served for real: a picture has several vectors, mixed for each text as torch mixes them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running, running
from tests.service import pictures
from tests.service.conftest import checking_client
from tests.service.llip import DIMENSIONS, PICTURES, TOKENS, Llip, export_llip, picture

TEXTS = ["a cat that sleeps", "a cup of coffee", "two temples", "rain"]
LABELS = ["cat", "cup of coffee", "temple"]
TEMPLATES = ["a photo of a {}.", "the {} in a book", "{}"]
IMAGES = [{"image": pictures.as_base64(name)} for name in PICTURES]
SMALL = [{"image": base64.b64encode(picture(name, 64)).decode()} for name in PICTURES]
BAD = {"image": "bad!"}
Matrix = np.ndarray


@pytest.fixture(scope="module")
def llip(tmp_path_factory: pytest.TempPathFactory) -> Llip:
    return export_llip(tmp_path_factory.mktemp("llip") / "bundle")


@pytest.fixture(scope="module")
def served(llip: Llip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    with running(folder, llip.bundle.path, max_batch="8", timeout_s="300") as service:
        yield service


@pytest.fixture
def client(served: Running) -> Iterator[httpx.Client]:
    with checking_client(served) as client:
        yield client


def post(client: httpx.Client, path: str, status: int = 200, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def embeddings(answer: Any) -> Matrix:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def scores_of(answer: Any, kind: str = "cosine") -> Matrix:
    """Of /classify, in the order of the labels."""
    rows = [{each["label"]: each[kind] for each in entry["predictions"]} for entry in answer["data"]]
    return np.array([[row[label] for label in LABELS] for row in rows])


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found), expected, atol=1e-4)


def test_each_picture_is_mixed_for_each_text(client: httpx.Client, llip: Llip) -> None:
    expected = llip.cosines(llip.tokens(), llip.texts(TEXTS))
    assert np.ptp(expected, axis=1).min() > 0.05  # the texts differ
    for _ in range(2):  # the second time out of the cache
        answer = post(client, "/similarity", queries=IMAGES, candidates=TEXTS, top_k=2)
        close(answer["cosine"], expected)
        best = (-expected).argsort(axis=1)[:, :2].tolist()
        assert [[entry["index"] for entry in row] for row in answer["ranking"]] == best
        logits = llip.bundle.logit_scale * expected
        close(answer["probability"], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    close(post(client, "/similarity", queries=TEXTS, candidates=IMAGES)["cosine"], expected.T)


def test_what_is_mixed_is_none_of_the_vectors_and_not_their_mean(llip: Llip) -> None:
    """Or the tests above would pass with less than Llip."""
    tokens, texts = llip.tokens(), llip.texts(TEXTS)
    mean = tokens.mean(axis=1) / np.linalg.norm(tokens.mean(axis=1), axis=1, keepdims=True)
    for plain in (*tokens.transpose(1, 0, 2), mean):
        assert np.abs(plain @ texts.T - llip.cosines(tokens, texts)).max() > 1e-2


def test_texts_and_pictures_on_one_side_and_bad_items(client: httpx.Client, llip: Llip) -> None:
    texts, tokens = llip.texts(TEXTS), llip.tokens()
    queries = [TEXTS[0], BAD, IMAGES[0], IMAGES[1]]
    answer = post(
        client, "/similarity", queries=queries, candidates=[*TEXTS, {"text": ""}, " "], on_error="item", top_k=1
    )
    plain, mixed = texts[:1] @ texts.T, llip.cosines(tokens[:2], texts)
    close([answer["cosine"][0][:4], *(row[:4] for row in answer["cosine"][2:])], [plain[0], *mixed])
    assert answer["cosine"][1] is None
    assert all(row[4:] == [None, None] for row in answer["cosine"] if row is not None)
    assert [each["index"] for each in answer["errors"]["candidates"]] == [4, 5]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/similarity", {"queries": ["a", IMAGES[0]], "candidates": ["a", IMAGES[1]]}, "candidates.1.image"),
        ("/similarity", {"queries": IMAGES, "candidates": IMAGES[0], "on_error": "item"}, "candidates.image"),
        ("/v1/rerank", {"query": IMAGES[0], "documents": ["a", IMAGES[1]]}, "documents.1.image"),
    ],
)
def test_two_pictures_have_no_cosine(client: httpx.Client, path: str, body: dict[str, Any], param: str) -> None:
    error = post(client, path, 422, **body)["error"]
    assert (error["code"], error["param"]) == ("unsupported_modality", param)
    assert "texts on the other" in error["message"]


def test_classification_mixes_for_the_vector_of_each_class(client: httpx.Client, llip: Llip) -> None:
    tokens = llip.tokens()
    for given, templates in ((None, TEMPLATES[:1]), (TEMPLATES, TEMPLATES)):
        expected = llip.cosines(tokens, llip.classes(LABELS, templates))
        answer = post(client, "/classify", inputs=[*IMAGES, "a cat"], labels=LABELS, templates=given)
        close(scores_of(answer)[:3], expected)
        close(scores_of(answer)[3], llip.texts(["a cat"])[0] @ llip.classes(LABELS, templates).T)
        logits = llip.bundle.logit_scale * expected
        close(scores_of(answer, "score")[:3], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def test_each_label_alone_against_no_label(client: httpx.Client, llip: Llip) -> None:
    classes = np.concatenate([llip.classes(LABELS), llip.texts(["a photo of a ."])])
    cosines = llip.cosines(llip.tokens(), classes)
    answer = post(client, "/classify", inputs=IMAGES, labels=LABELS, multi_label=True)
    against = llip.bundle.logit_scale * (cosines[:, :-1] - cosines[:, -1:])
    close(scores_of(answer, "score"), 1 / (1 + np.exp(-against)))


def test_a_stored_label_set(client: httpx.Client, llip: Llip) -> None:
    stored = client.put("/label-sets/things", json={"labels": LABELS, "templates": TEMPLATES})
    assert stored.status_code == 201, stored.text
    answer = post(client, "/classify", inputs=[*IMAGES, BAD], label_set="things", on_error="item")
    assert answer["data"][3]["error"]["param"] == "inputs.3.image"
    assert answer["usage"] == {"texts": 0, "tokens": 0, "images": 3}
    close(scores_of({"data": answer["data"][:3]}), llip.cosines(llip.tokens(), llip.classes(LABELS, TEMPLATES)))
    client.delete("/label-sets/things")


def test_parts_are_as_the_whole(client: httpx.Client, llip: Llip) -> None:
    """More pictures than are mixed at once, and more pairs."""
    queries = [SMALL[index % 3] for index in range(100)]
    candidates = [f"thing number {index}" for index in range(400)]
    answer = post(client, "/similarity", queries=queries, candidates=candidates, top_k=1)
    expected = llip.cosines(llip.tokens(size=64), llip.texts(candidates))
    close(answer["cosine"], expected[np.arange(100) % 3])


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        ("/v1/rerank", {"documents": [*IMAGES, "a dog"], "raw_scores": True}, lambda answer: answer["results"]),
        ("/rerank", {"documents": [*IMAGES, "a dog"], "raw_scores": True}, lambda answer: answer["results"]),
    ],
)
def test_ranking_mixes_each_document(client: httpx.Client, llip: Llip, path: str, body: Any, read: Any) -> None:
    [query, other] = llip.texts(["a cat", "a dog"])
    expected = [*llip.cosines(llip.tokens(), query[None])[:, 0], query @ other]
    found = {each["index"]: each["relevance_score"] for each in read(post(client, path, query="a cat", **body))}
    close([found[index] for index in range(4)], expected)
    assert list(found) == np.argsort(-np.array(expected)).tolist()


def test_scores_of_ranking_and_a_picture_as_the_query(client: httpx.Client, llip: Llip) -> None:
    expected = llip.cosines(llip.tokens(["cat"]), llip.texts(TEXTS))[0]
    answer = post(client, "/v1/rerank", query=IMAGES[0], documents=TEXTS)
    found = {each["index"]: each["relevance_score"] for each in answer["results"]}
    close([found[index] for index in range(len(TEXTS))], (1 + expected) / 2)
    subject = {"type": "base64", "value": pictures.as_base64("cat")}
    close(post(client, "/clip/compare", subject=subject, prompt=TEXTS)["similarity"], expected)


def test_classification_of_other_apis(client: httpx.Client, llip: Llip) -> None:
    answer = post(client, "/v1/classify", input=IMAGES, labels=LABELS)
    logits = llip.bundle.logit_scale * llip.cosines(llip.tokens(), llip.classes(LABELS))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    close(scores_of(answer, "score"), expected)
    parameters = {"candidate_labels": LABELS, "hypothesis_template": "a photo of a {}."}
    task = post(client, "/models/llip", inputs=pictures.as_base64("coffee"), parameters=parameters)
    found = {each["label"]: each["score"] for each in task}
    close([found[label] for label in LABELS], expected[1])


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


def test_too_many_predictions_are_refused_as_ever(client: httpx.Client) -> None:
    labels = [f"label {index}" for index in range(1000)]
    error = post(client, "/classify", 422, inputs=SMALL * 100, labels=labels)["error"]
    assert (error["code"], error["param"]) == ("too_many_inputs", "top_k")
