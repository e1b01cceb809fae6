"""POST /v1/classify, /v1/rerank and /models/{id} against the native endpoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from model.bundle import Bundle
from service.classification.ranking import relevance
from tests.service import pictures

CAT = pictures.as_base64("cat")
ROCKET = pictures.as_base64("rocket")
LABELS = ["cat", "rocket", "cup of coffee"]
LONG_TEXT = "an astonishingly long description of a photograph " * 20


def ask(client: httpx.Client, path: str, **request: Any) -> Any:
    response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, path: str, status: int = 422, **request: Any) -> tuple[str, str | None]:
    response = client.post(path, json=request)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    return error["code"], error["param"]


def scores(predictions: list[dict[str, Any]]) -> dict[str, Any]:
    assert [each["score"] for each in predictions] == sorted((each["score"] for each in predictions), reverse=True)
    return {each["label"]: pytest.approx(each["score"], abs=1e-4) for each in predictions}


def test_classify_scores_as_the_native_endpoint(client: httpx.Client, bundle: Bundle) -> None:
    given = [{"image": CAT}, "a rocket", {"text": "a cup"}]
    answer = ask(client, "/v1/classify", model=bundle.id, input=given, labels=LABELS, classifier_id=None)
    expected = ask(client, "/classify", inputs=given, labels=LABELS)
    assert answer.keys() == {"object", "data", "model", "usage"}
    assert answer["usage"] == dict.fromkeys(("prompt_tokens", "total_tokens"), expected["usage"]["tokens"])
    for entry, native in zip(answer["data"], expected["data"], strict=True):
        assert (entry["object"], entry["index"]) == ("classification", native["index"])
        assert entry["prediction"] == native["label"] == entry["predictions"][0]["label"]
        assert entry["score"] == entry["predictions"][0]["score"]
        assert [each.keys() for each in entry["predictions"]] == [{"label", "score"}] * len(LABELS)
        assert scores(entry["predictions"]) == scores(native["predictions"])


def test_classify_with_many_predictions(client: httpx.Client) -> None:
    labels, texts = [f"thing {index}" for index in range(100)], [f"a thing {index}" for index in range(30)]
    data = ask(client, "/v1/classify", input=texts, labels=labels)["data"]
    assert [entry["index"] for entry in data] == list(range(30))
    for entry in data:
        assert sum(each["score"] for each in entry["predictions"]) == pytest.approx(1, abs=1e-3)
        assert {each["label"] for each in entry["predictions"]} == set(labels)


def test_classify_takes_the_options_of_the_native_endpoint(client: httpx.Client) -> None:
    options = {"labels": LABELS, "templates": ["{}", "a drawing of a {}."], "top_k": 1}
    [entry] = ask(client, "/v1/classify", input={"image": CAT}, **options)["data"]
    [native] = ask(client, "/classify", inputs={"image": CAT}, **options)["data"]
    assert scores(entry["predictions"]) == scores(native["predictions"])
    [nothing] = ask(client, "/v1/classify", input="a cat", labels=LABELS, threshold=1, multi_label=True)["data"]
    assert (nothing["prediction"], nothing["score"], nothing["predictions"]) == (None, None, [])


def test_classify_names_what_is_wrong(client: httpx.Client, narrow_client: httpx.Client) -> None:
    path = "/v1/classify"
    assert refused(client, path, input=["a", {"image": 5}], labels=LABELS) == ("invalid_request", "input.1.image")
    assert refused(client, path, input=["a", {"image": "!"}], labels=LABELS) == ("invalid_image", "input.1.image")
    assert refused(client, path, labels=LABELS) == ("invalid_request", "input")
    assert refused(client, path, input="a", classifier_id="x") == ("invalid_request", "labels")
    assert refused(client, path, input="a", labels=LABELS, templates=["x"]) == ("invalid_template", "templates.0")
    assert refused(client, path, 404, input="a", labels=LABELS, model="x") == ("model_not_found", "model")
    assert refused(narrow_client, path, input="a", labels=[str(i) for i in range(21)])[0] == "too_many_inputs"


@pytest.mark.parametrize("query", ["a cat", {"text": "a rocket"}, {"image": CAT}])
def test_rerank_orders_by_cosine(client: httpx.Client, bundle: Bundle, query: Any) -> None:
    documents = [{"image": ROCKET}, "a kitten", {"image": CAT}, {"text": "a starship", "title": "metadata"}]
    plain = [{"image": ROCKET}, "a kitten", {"image": CAT}, "a starship"]
    [cosine] = ask(client, "/similarity", queries=query, candidates=plain)["cosine"]
    answer = ask(client, "/v1/rerank", query=query, documents=documents, max_tokens_per_doc=64, priority=0)
    assert answer.keys() == {"id", "object", "results", "model", "usage"}
    assert answer["model"] == bundle.id
    order = np.argsort(-np.array(cosine)).tolist()
    assert [result["index"] for result in answer["results"]] == order
    assert [result.keys() for result in answer["results"]] == [{"index", "relevance_score"}] * 4
    raw = ask(client, "/v1/rerank", query=query, documents=documents, raw_scores=True)["results"]
    assert [each["relevance_score"] for each in raw] == pytest.approx([cosine[index] for index in order], abs=1e-4)
    found = [result["relevance_score"] for result in answer["results"]]
    assert found == sorted(found, reverse=True)
    assert all(0 <= score <= 1 for score in found)


def test_a_relevance_score_is_of_one_document_alone(client: httpx.Client) -> None:
    documents = ["a kitten", "a car", {"image": CAT}]
    together = ask(client, "/v1/rerank", query="a cat", documents=documents)["results"]
    for result in together:
        [alone] = ask(client, "/v1/rerank", query="a cat", documents=[documents[result["index"]]])["results"]
        assert alone["relevance_score"] == pytest.approx(result["relevance_score"], abs=1e-4)
    [itself] = ask(client, "/v1/rerank", query={"image": CAT}, documents={"image": CAT})["results"]
    assert itself["relevance_score"] == pytest.approx(1, abs=1e-4)


def test_a_relevance_score_of_a_sigmoid_model_is_the_probability_of_the_pair(bundle: Bundle) -> None:
    sigmoid = replace(bundle, manifest=bundle.manifest.model_copy(update={"logit_scale": 10.0, "logit_bias": -2.0}))
    found = relevance(np.array([0.2, -0.5, 1], np.float32), sigmoid)
    np.testing.assert_allclose(found, 1 / (1 + np.exp([0.0, 7.0, -8.0])), atol=1e-6)


def test_rerank_gives_the_best_and_their_documents(client: httpx.Client) -> None:
    documents = ["a car", {"image": CAT}, {"text": "a cat"}]
    answer = ask(client, "/v1/rerank", query="a cat", documents=documents, top_n=2, return_documents=True)
    assert len(answer["results"]) == 2
    assert (answer["results"][0]["index"], answer["results"][0]["document"]) == (2, {"text": "a cat"})
    everything = ask(client, "/v1/rerank", query="a cat", documents=documents, top_n=99, return_documents=True)
    assert {result["index"]: result["document"] for result in everything["results"]} == {
        0: {"text": "a car"},
        1: {"image": CAT},
        2: {"text": "a cat"},
    }


def test_rerank_tells_the_request_id(client: httpx.Client) -> None:
    body = {"query": "a", "documents": ["a", "b"]}
    response = client.post("/v1/rerank", json=body, headers={"x-request-id": "mine-7"})
    assert response.json()["id"] == response.headers["x-request-id"] == "mine-7"


def test_rerank_names_what_is_wrong(client: httpx.Client, narrow_client: httpx.Client) -> None:
    path = "/v1/rerank"
    assert refused(client, path, query="a") == ("invalid_request", "documents")
    assert refused(client, path, documents=["a"]) == ("invalid_request", "query")
    assert refused(client, path, query=["a"], documents=["a"]) == ("invalid_request", "query")
    assert refused(client, path, query="a", documents=[]) == ("invalid_request", "documents")
    assert refused(client, path, query="a", documents=["a", 5.5]) == ("invalid_request", "documents.1")
    assert refused(client, path, query="a", documents=["a"], top_n=0) == ("invalid_request", "top_n")
    assert refused(client, path, query="a", documents=["a", LONG_TEXT]) == ("text_too_long", "documents.1")
    assert refused(client, path, query={"image": "!"}, documents=["a"]) == ("invalid_image", "query.image")
    assert refused(client, path, 404, query="a", documents=["a"], model="rerank-v3.5") == ("model_not_found", "model")
    assert refused(narrow_client, path, query="a", documents=["a"] * 33) == ("too_many_inputs", "documents")


@pytest.mark.parametrize("template", [None, "a drawing of a {}."])
@pytest.mark.parametrize("labels", [LABELS, "cat, rocket , ,cup of coffee"])
def test_hugging_face_scores_as_the_native_endpoint(
    client: httpx.Client, bundle: Bundle, labels: Any, template: str | None
) -> None:
    parameters = {"candidate_labels": labels, "hypothesis_template": template}
    found = ask(client, f"/models/{bundle.id}", inputs=CAT, parameters=parameters, options={"wait_for_model": True})
    templates = [template or "This is a photo of {}."]
    [native] = ask(client, "/classify", inputs={"image": CAT}, labels=LABELS, templates=templates)["data"]
    assert isinstance(found, list)
    assert [each.keys() for each in found] == [{"label", "score"}] * len(LABELS)
    assert scores(found) == scores(native["predictions"])


@pytest.mark.parametrize(
    ("inputs", "parameters", "expected"),
    [
        (CAT, None, ("text_too_long", "inputs")),
        (CAT, {}, ("invalid_request", "parameters.candidate_labels")),
        (CAT, {"candidate_labels": []}, ("invalid_request", "parameters.candidate_labels")),
        (CAT, {"candidate_labels": " ,"}, ("invalid_request", "parameters.candidate_labels")),
        (CAT, {"candidate_labels": ["a", "a"]}, ("invalid_request", "parameters.candidate_labels.1")),
        (CAT, {"candidate_labels": ["a", LONG_TEXT]}, ("text_too_long", "parameters.candidate_labels.1")),
        (CAT, {"candidate_labels": ["a"], "hypothesis_template": "a photo"}, None),
        (CAT, {"candidate_labels": ["a"], "hypothesis_template": "{} and {}"}, None),
        (CAT, {"candidate_labels": ["a"], "hypothesis_template": ""}, None),
        ("!", {"candidate_labels": ["a"]}, ("invalid_image", "inputs")),
        ("https://example.com/cat.jpg", {"candidate_labels": ["a"]}, ("url_not_allowed", "inputs")),
        ({"image": "!"}, {"candidate_labels": ["a"]}, ("invalid_image", "inputs.image")),
        ({"picture": CAT}, {"candidate_labels": ["a"]}, ("invalid_request", "inputs.image")),
        (["a", ""], None, ("invalid_request", "inputs.1")),
    ],
)
def test_hugging_face_names_what_is_wrong(
    client: httpx.Client, bundle: Bundle, inputs: Any, parameters: Any, expected: tuple[str, str] | None
) -> None:
    template = ("invalid_template", "parameters.hypothesis_template")
    assert refused(client, f"/models/{bundle.id}", inputs=inputs, parameters=parameters) == (expected or template)


def test_hugging_face_for_javascript_sends_its_image_in_an_object(client: httpx.Client, bundle: Bundle) -> None:
    """@huggingface/inference 4.13."""
    parameters = {"candidate_labels": LABELS}
    plain, wrapped = (
        ask(client, f"/models/{bundle.id}", inputs=inputs, parameters=parameters) for inputs in (CAT, {"image": CAT})
    )
    assert plain == wrapped


def test_hugging_face_extracts_features(client: httpx.Client, bundle: Bundle) -> None:
    data = client.post("/embed", json={"inputs": ["a cat", "a dog"]}).json()["data"]
    rows = [entry["embedding"] for entry in data]
    assert ask(client, f"/models/{bundle.id}", inputs=["a cat", "a dog"], normalize=True) == rows
    assert ask(client, f"/models/{bundle.id}", inputs="a cat", prompt_name=None, truncate=True) == rows[:1]
    assert refused(client, f"/models/{bundle.id}", inputs="a", prompt_name="q") == ("invalid_request", "prompt_name")
    sides = [
        ask(client, f"/models/{bundle.id}", inputs=LONG_TEXT + "end", truncate=True, truncation_direction=side)
        for side in ("Right", "left")
    ]
    assert sides[0] != sides[1]


def test_hugging_face_knows_the_models_that_are_served(client: httpx.Client, bundle: Bundle) -> None:
    parameters = {"candidate_labels": LABELS}
    for name in ("no-such-model", "openai/clip-vit-base-patch32"):
        assert refused(client, f"/models/{name}", 404, inputs=CAT, parameters=parameters) == ("model_not_found", "id")
    assert [model["id"] for model in client.get("/models").json()["models"]] == [bundle.id]
    assert client.post("/models", json={}).status_code == 405
