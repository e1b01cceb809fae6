"""An Llip bundle, served for real: a picture has several vectors, mixed for each text as torch mixes them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from tests.service import pictures
from tests.service.conftest import checking_client
from tests.service.llip import BAD, IMAGES, PICTURES, TEXTS, Llip, close, picture, post

LABELS = ["cat", "cup of coffee", "temple"]
TEMPLATES = ["a photo of a {}.", "the {} in a book", "{}"]
SMALL = [{"image": base64.b64encode(picture(name, 64)).decode()} for name in PICTURES]
Matrix = np.ndarray


@pytest.fixture
def client(llip_service: Running) -> Iterator[httpx.Client]:
    with checking_client(llip_service) as client:
        yield client


def scores_of(answer: Any, kind: str = "cosine") -> Matrix:
    """Of /classify, in the order of the labels."""
    rows = [{each["label"]: each[kind] for each in entry["predictions"]} for entry in answer["data"]]
    return np.array([[row[label] for label in LABELS] for row in rows])


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


def test_too_many_predictions_are_refused_as_ever(client: httpx.Client) -> None:
    labels = [f"label {index}" for index in range(1000)]
    error = post(client, "/classify", 422, inputs=SMALL * 100, labels=labels)["error"]
    assert (error["code"], error["param"]) == ("too_many_inputs", "top_k")
