"""POST /similarity and /classify against the same arithmetic done here."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from tests.service import pictures

LABELS = ["cat", "rocket", "cup of coffee", "astronaut", "temple"]
Matrix = NDArray[np.float64]


def embed(client: httpx.Client, items: list[Any]) -> Matrix:
    data = client.post("/embed", json={"inputs": items}).json()["data"]
    return np.array([entry["embedding"] for entry in data])


def softmax(logits: Matrix) -> Matrix:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softened: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return softened


def unit(rows: Matrix) -> Matrix:
    scaled: Matrix = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def picture(name: str) -> dict[str, str]:
    return {"image": pictures.as_base64(name)}


def classify(client: httpx.Client, **request: Any) -> list[dict[str, Any]]:
    answer = client.post("/classify", json=request)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def test_similarity(client: httpx.Client, bundle: Bundle) -> None:
    queries, candidates = [picture("cat"), "a rocket"], ["a cat", picture("rocket"), picture("moon")]
    answer = client.post("/similarity", json={"queries": queries, "candidates": candidates, "top_k": 2}).json()
    cosine = embed(client, queries) @ embed(client, candidates).T
    probability = softmax(bundle.logit_scale * cosine)
    np.testing.assert_allclose(answer["cosine"], cosine, atol=1e-4)
    np.testing.assert_allclose(answer["probability"], probability, atol=1e-3)
    for row, ranking in zip(cosine, answer["ranking"], strict=True):
        assert [entry["index"] for entry in ranking] == np.argsort(-row)[:2].tolist()
        assert [entry["cosine"] for entry in ranking] == pytest.approx(np.sort(row)[::-1][:2], abs=1e-4)


def test_similarity_of_single_items_without_ranking(client: httpx.Client) -> None:
    answer = client.post("/similarity", json={"queries": "a", "candidates": "a"}).json()
    assert answer["cosine"][0][0] == pytest.approx(1, abs=1e-4)
    assert answer["probability"] == [[1.0]]
    assert "ranking" not in answer


def test_classify_is_a_softmax_over_averaged_templates(client: httpx.Client, bundle: Bundle) -> None:
    templates = ["a photo of a {}.", "{} {literally} %s {0}", "art: {}"]
    inputs = [picture("cat"), "a rocket launch"]
    answers = classify(client, inputs=inputs, labels=LABELS, templates=templates)
    prompts = embed(client, [template.replace("{}", label) for label in LABELS for template in templates])
    classes = unit(unit(prompts).reshape(len(LABELS), len(templates), -1).mean(axis=1))
    cosine = embed(client, inputs) @ classes.T
    scores = softmax(bundle.logit_scale * cosine)
    for index, answer in enumerate(answers):
        order = np.argsort(-scores[index])
        assert answer["index"] == index
        assert answer["label"] == LABELS[order[0]]
        assert answer["score"] == pytest.approx(scores[index].max(), abs=1e-3)
        assert [entry["label"] for entry in answer["predictions"]] == [LABELS[column] for column in order]
        assert [entry["score"] for entry in answer["predictions"]] == pytest.approx(scores[index][order], abs=1e-3)
        assert [entry["cosine"] for entry in answer["predictions"]] == pytest.approx(cosine[index][order], abs=1e-4)


def test_the_default_template(client: httpx.Client) -> None:
    request = {"inputs": picture("rocket"), "labels": LABELS}
    assert classify(client, **request) == classify(client, **request, templates=["a photo of a {}."])


def test_multi_label_judges_each_label_alone(client: httpx.Client, bundle: Bundle) -> None:
    [answer] = classify(client, inputs=picture("cat"), labels=LABELS, multi_label=True)
    image, without = embed(client, [picture("cat"), "a photo of a ."])
    for prediction in answer["predictions"]:
        [prompt] = embed(client, [f"a photo of a {prediction['label']}."])
        logit = bundle.logit_scale * (image @ prompt - image @ without)
        assert prediction["score"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    [alone] = classify(client, inputs=picture("cat"), labels=LABELS[:1], multi_label=True)
    score = next(entry["score"] for entry in answer["predictions"] if entry["label"] == LABELS[0])
    assert alone["score"] == pytest.approx(score, abs=1e-4)


def test_threshold_and_top_k(client: httpx.Client) -> None:
    request = {"inputs": [picture("cat"), "rocket"], "labels": LABELS}
    full = classify(client, **request)
    assert [len(answer["predictions"]) for answer in classify(client, **request, top_k=2)] == [2, 2]
    assert [len(answer["predictions"]) for answer in classify(client, **request, top_k=99)] == [5, 5]
    second = full[0]["predictions"][1]["score"]
    kept = classify(client, **request, threshold=second - 1e-6)
    assert kept[0]["predictions"] == full[0]["predictions"][:2]
    for answer in classify(client, **request, threshold=1.0):
        assert (answer["label"], answer["score"], answer["predictions"]) == (None, None, [])


def test_an_image_body_takes_labels_from_the_query(client: httpx.Client) -> None:
    headers = {"content-type": "image/png"}
    query = {"labels": ["cat, rocket", "cup of coffee"], "templates": ["a {} there"], "top_k": "2"}
    answer = client.post("/classify", params=query, content=pictures.read("cat"), headers=headers).json()
    assert answer["data"] == classify(
        client, inputs=picture("cat"), labels=LABELS[:3], templates=["a {} there"], top_k=2
    )


def test_bad_items_may_fail_in_their_place_but_labels_may_not(client: httpx.Client) -> None:
    inputs = [picture("cat"), {"image": "eA=="}, picture("rocket")]
    answers = classify(client, inputs=inputs, labels=LABELS, on_error="item")
    assert answers[1]["error"]["param"] == "inputs.1.image"
    assert answers[::2] == [
        {**answer, "index": index}
        for index, answer in zip((0, 2), classify(client, inputs=inputs[::2], labels=LABELS), strict=True)
    ]
    too_long = client.post("/classify", json={"inputs": "a", "labels": ["b", "c " * 100], "on_error": "item"})
    assert too_long.status_code == 422
    assert too_long.json()["error"]["param"] == "labels.1"


def test_many_labels(client: httpx.Client) -> None:
    labels = [f"thing number {number}" for number in range(1100)]  # more prompts than the queue has places
    [answer] = classify(client, inputs="thing number 7", labels=labels, top_k=1)
    assert answer["label"] in labels
