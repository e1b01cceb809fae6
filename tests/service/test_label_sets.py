"""Stored label sets and named template sets, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from model.bundle import Bundle
from model.zeroshot import template_sets
from service.schema import answers
from tests.service.test_zero_shot import LABELS, classify, embed, picture, softmax, unit


def put(client: httpx.Client, name: str, **body: Any) -> dict[str, Any]:
    answer = client.put(f"/label-sets/{name}", json=body)
    assert answer.status_code in (200, 201), answer.text
    answers.LabelSetStored.model_validate_json(answer.content)
    stored: dict[str, Any] = answer.json()
    return stored


def error_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]


def texts_run(service: Running) -> float:
    return service.metric("sightword_inference_items_total", tower="text")


@pytest.fixture
def pets(client: httpx.Client) -> Iterator[str]:
    put(client, "Pets_1.0-a", labels=LABELS, templates=["a {} there", "{}"])
    yield "Pets_1.0-a"
    client.delete("/label-sets/Pets_1.0-a")


def test_all_verbs(client: httpx.Client) -> None:
    body = {"labels": LABELS, "template_set": "photo"}
    assert error_of(client.get("/label-sets/animals")) == (404, "label_set_not_found", "name")
    first = client.put("/label-sets/animals", json=body)
    assert first.status_code == 201
    assert first.json()["usage"] == {**first.json()["usage"], "texts": len(LABELS) + 1, "images": 0}
    assert client.put("/label-sets/animals", json=body).status_code == 200
    assert client.put("/label-sets/animals", json={"labels": LABELS[:2]}).json()["labels"] == LABELS[:2]
    stored = client.get("/label-sets/animals")
    answers.LabelSetAnswer.model_validate_json(stored.content)
    assert (stored.json()["labels"], stored.json()["templates"]) == (LABELS[:2], ["a photo of a {}."])
    assert (stored.json()["label_count"], stored.json()["template_set"]) == (2, None)
    [listed] = [each for each in client.get("/label-sets").json()["label_sets"] if each["name"] == "animals"]
    assert listed == {name: value for name, value in stored.json().items() if name not in ("labels", "templates")}
    assert client.delete("/label-sets/animals").status_code == 204
    assert error_of(client.delete("/label-sets/animals")) == (404, "label_set_not_found", "name")
    request = {"inputs": "a", "label_set": "animals"}
    assert error_of(client.post("/classify", json=request)) == (404, "label_set_not_found", "label_set")
    assert all(each["name"] != "animals" for each in client.get("/label-sets").json()["label_sets"])


@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"top_k": 2, "threshold": 0.01}])
def test_the_same_as_labels_and_free(
    client: httpx.Client, service: Running, pets: str, options: dict[str, Any]
) -> None:
    request = {"inputs": [picture("cat"), picture("rocket")], **options}
    before = texts_run(service)
    answer = client.post("/classify", json={**request, "label_set": pets})
    assert "tokenize" not in answer.headers["server-timing"]
    assert texts_run(service) == before
    assert answer.json()["usage"] == {"texts": 0, "tokens": 0, "images": 2}
    inline = classify(client, **request, labels=LABELS, templates=["a {} there", "{}"])
    for stored, given in zip(answer.json()["data"], inline, strict=True):
        assert stored["label"] == given["label"]
        for one, other in zip(stored["predictions"], given["predictions"], strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            assert one["cosine"] == pytest.approx(other["cosine"], abs=1e-5)


def test_with_other_templates_than_its_own(client: httpx.Client, pets: str) -> None:
    request = {"inputs": picture("cat"), "top_k": 3}
    for chosen in ({"templates": ["a drawing of a {}."]}, {"template_set": "plain"}):
        assert classify(client, **request, label_set=pets, **chosen) == classify(
            client, **request, labels=LABELS, **chosen
        )
    own = classify(client, **request, label_set=pets)
    assert own != classify(client, **request, label_set=pets, template_set="plain")


def test_labels_that_come_again_are_not_read_again(client: httpx.Client) -> None:
    request = {"inputs": picture("cat"), "labels": [f"a {label} of another kind" for label in LABELS]}
    first, second = (client.post("/classify", json=request) for _ in range(2))
    assert "tokenize" in first.headers["server-timing"]
    assert "tokenize" not in second.headers["server-timing"]
    assert second.json() == first.json()
    assert first.json()["usage"]["texts"] == len(LABELS)


@pytest.mark.parametrize("name", ["imagenet-7", "photo"])
def test_an_ensemble_is_the_mean_of_its_templates(client: httpx.Client, bundle: Bundle, name: str) -> None:
    templates = client.get("/info").json()["template_sets"][name]
    put(client, "ensemble", labels=LABELS, template_set=name)
    [answer] = classify(client, inputs=picture("rocket"), label_set="ensemble")
    prompts = embed(client, [template.replace("{}", label) for label in LABELS for template in templates])
    classes = unit(unit(prompts).reshape(len(LABELS), len(templates), -1).mean(axis=1))
    cosine = embed(client, [picture("rocket")]) @ classes.T
    [scores] = softmax(bundle.logit_scale * cosine)
    order = np.argsort(-scores)
    assert [entry["label"] for entry in answer["predictions"]] == [LABELS[column] for column in order]
    assert [entry["score"] for entry in answer["predictions"]] == pytest.approx(scores[order], abs=1e-3)
    assert classify(client, inputs=picture("rocket"), labels=LABELS, template_set=name) == [answer]


def test_labels_are_put_in_literally(client: httpx.Client) -> None:
    labels, template = ["{}", "{0!r} %s", "{x.__class__} $y"], "{{ {} }} %d {label}"
    put(client, "literal", labels=labels, templates=[template])
    [answer] = classify(client, inputs=picture("cat"), label_set="literal")
    texts = ["{{ {} }} %d {label}", "{{ {0!r} %s }} %d {label}", "{{ {x.__class__} $y }} %d {label}"]
    [cosine] = embed(client, [picture("cat")]) @ embed(client, texts).T
    assert {each["label"]: each["cosine"] for each in answer["predictions"]} == {
        label: pytest.approx(expected, abs=1e-5) for label, expected in zip(labels, cosine, strict=True)
    }


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_request", "labels"),
    ({"labels": []}, "invalid_request", "labels"),
    ({"labels": "cat"}, "invalid_request", "labels"),
    ({"labels": ["cat", 3]}, "invalid_request", "labels.1"),
    ({"labels": ["cat", " "]}, "invalid_request", "labels.1"),
    ({"labels": ["cat", "cat "]}, "invalid_request", "labels.1"),
    ({"labels": ["cat", "dog", "cat"]}, "invalid_request", "labels.2"),
    ({"labels": ["cat", "dog " * 100]}, "text_too_long", "labels.1"),
    ({"labels": ["cat", "d" * 20_000]}, "text_too_long", "labels.1"),
    ({"labels": ["cat"], "templates": ["{}", "none"]}, "invalid_template", "templates.1"),
    ({"labels": ["cat"], "templates": ["{} {}"]}, "invalid_template", "templates.0"),
    ({"labels": ["cat"], "templates": []}, "invalid_request", "templates"),
    ({"labels": ["cat"], "templates": ["{}"], "template_set": "plain"}, "invalid_request", "template_set"),
    ({"labels": ["cat"], "template_set": "none"}, "invalid_request", "template_set"),
    ({"labels": [str(n) for n in range(10_001)]}, "too_many_inputs", "labels"),
    ({"labels": [str(n) for n in range(126)], "template_set": "imagenet-80"}, "too_many_inputs", "template_set"),
    ({"labels": ["cat"], "top_k": 1}, "invalid_request", "top_k"),
    ({"labels": ["cat"], "model": "another"}, "model_not_found", "model"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD)
def test_what_cannot_be_used_is_not_stored(client: httpx.Client, body: dict[str, Any], code: str, param: str) -> None:
    status = 404 if code == "model_not_found" else 422
    assert error_of(client.put("/label-sets/bad", json=body)) == (status, code, param)
    assert client.get("/label-sets/bad").status_code == 404


def test_an_unknown_template_set_is_told_what_there_is(client: httpx.Client) -> None:
    answer = client.post("/classify", json={"inputs": "a", "labels": LABELS, "template_set": "../plain"})
    assert error_of(answer) == (422, "invalid_request", "template_set")
    assert all(name in answer.json()["error"]["message"] for name in template_sets())


def test_long_labels_are_cut_where_that_was_wanted(client: httpx.Client) -> None:
    put(client, "long", labels=["cat", "dog " * 100], truncate=True)
    assert client.get("/label-sets/long").json()["truncate"]
    classify(client, inputs=picture("cat"), label_set="long")
    request = {"inputs": picture("cat"), "label_set": "long", "templates": ["a {}"]}
    assert classify(client, **request) == classify(client, **request, truncate=True)


DOTS = ["..", "../x", "..%2Fx", "%2Fetc%2Fpasswd", "a%5Cb"]
NAMES = [*DOTS, "a/b", ".hidden", "-a", "a" * 65, "a%00", "%C3%A9", "a%20b", ""]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_names(client: httpx.Client, service: Running, name: str) -> None:
    for method, body in (("PUT", '{"labels": ["a"]}'), ("GET", None), ("DELETE", None)):
        connection = HTTPConnection(service.url.removeprefix("http://"), timeout=300)  # httpx would resolve the dots
        connection.request(method, f"/label-sets/{name}", body, {"content-type": "application/json"})
        refusal = connection.getresponse()
        error = json.loads(refusal.read())["error"]
        assert (refusal.status, error["code"], error["param"]) == (422, "invalid_request", "name")
    answer = client.post("/classify", json={"inputs": "a", "label_set": unquote(name)})
    assert error_of(answer) == (404, "label_set_not_found", "label_set")


def test_limits_hold_for_stored_labels_too(narrow_client: httpx.Client) -> None:
    put(narrow_client, "ten", labels=[str(number) for number in range(10)], templates=["{}"])
    for param, value in (("template_set", "imagenet-7"), ("templates", ["{}", "a {}", "b {}"])):
        answer = narrow_client.post("/classify", json={"inputs": "a", "label_set": "ten", param: value})
        assert error_of(answer) == (422, "too_many_inputs", param)


def test_ten_thousand_labels(client: httpx.Client, service: Running) -> None:
    put(client, "many", labels=[f"number {number}" for number in range(10_000)], templates=["{}"])
    before = texts_run(service)
    answers = [
        client.post("/classify", json={"inputs": "number 7654", "label_set": "many", "top_k": top_k}).json()
        for top_k in (3, 10_000)
    ]
    assert answers[0]["data"][0]["predictions"] == answers[1]["data"][0]["predictions"][:3]
    assert answers[0]["data"][0]["label"] == "number 7654"
    assert answers[0]["usage"]["texts"] == 1
    assert texts_run(service) <= before + 1  # the input
    inputs = [picture("cat")] * 26
    answer = client.post("/classify", json={"inputs": inputs, "label_set": "many"})
    assert error_of(answer) == (422, "too_many_inputs", "top_k")


def test_asked_by_many_at_once_and_left_by_the_first(client: httpx.Client, service: Running) -> None:
    request = {"inputs": picture("cat"), "labels": [f"item {number} of a list" for number in range(700)], "top_k": 1}
    before = texts_run(service)

    def ask(headers: dict[str, str]) -> httpx.Response:
        return httpx.post(f"{service.url}/classify", json=request, headers=headers, timeout=300)

    with ThreadPoolExecutor(6) as pool:
        impatient = pool.submit(ask, {"x-request-timeout": "0.1"})
        answers = [future.result() for future in [pool.submit(ask, {}) for _ in range(5)]]
    assert impatient.result().status_code in (200, 504)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.text for answer in answers}) == 1
    assert texts_run(service) - before <= 2 * 700  # twice, if the impatient one left before the others came
