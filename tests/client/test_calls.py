"""classify, similarity, rank, info and label sets: what the routes of the service give, and without one the same."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

import sightword
from benchmarks.service_process import Running
from sightword.errors import (
    InvalidImageError,
    InvalidRequestError,
    InvalidTemplateError,
    LabelSetNotFoundError,
    ModelNotFoundError,
    TextTooLongError,
)
from tests.client.bad_line import BadLine
from tests.service import pictures

PHOTOS = [pictures.read("cat"), pictures.read("coffee"), pictures.read("rocket")]
INPUTS = [{"image": pictures.as_base64(name)} for name in ("cat", "coffee", "rocket")]
LABELS = ["cat", "cup of coffee", "rocket", "dog"]


@pytest.fixture(params=["client", "local"])
def embedder(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def post(service: Running, path: str, **body: Any) -> Any:
    response = httpx.post(f"{service.url}{path}", json=body, timeout=300)
    assert response.status_code == 200, response.text
    return response.json()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_k": 2},
    {"templates": ["a photo of a {}.", "a drawing of a {}."]},
    {"template_set": "imagenet-7"},
    {"multi_label": True},
    {"multi_label": True, "threshold": 0.5},
    {"threshold": 0.99999},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_classify(embedder: Any, service: Running, options: dict[str, Any]) -> None:
    expected = post(service, "/classify", inputs=[*INPUTS, "a cat"], labels=LABELS, **options)["data"]
    found = embedder.classify([*PHOTOS, "a cat"], LABELS, **options)
    for entry, theirs in zip(found, expected, strict=True):
        assert entry.label == theirs["label"]
        assert [each.label for each in entry.predictions] == [each["label"] for each in theirs["predictions"]]
        for each, other in zip(entry.predictions, theirs["predictions"], strict=True):
            assert each.score == pytest.approx(other["score"], abs=1e-5)
            assert each.cosine == pytest.approx(other["cosine"], abs=1e-6)
        if entry.predictions:
            assert (entry.label, entry.score) == (entry.predictions[0].label, entry.predictions[0].score)
        else:
            assert (entry.label, entry.score) == (None, None)


def test_one_item_is_classified_as_a_list_of_one(embedder: Any) -> None:
    [entry] = embedder.classify(PHOTOS[0], ("cat", "dog"))
    assert entry.label == "cat"
    assert embedder.classify([], ["cat"]) == []


REFUSED: list[tuple[dict[str, Any], type[sightword.SightwordError], str]] = [
    ({"labels": []}, InvalidRequestError, "labels"),
    ({"labels": ["cat", "cat"]}, InvalidRequestError, "labels.1"),
    ({"labels": ["cat", " "]}, InvalidRequestError, "labels.1"),
    ({"labels": None}, InvalidRequestError, "labels"),
    ({"labels": ["cat"], "label_set": "a"}, InvalidRequestError, "labels"),
    ({"labels": ["cat"], "templates": ["no place"]}, InvalidTemplateError, "templates.0"),
    ({"labels": ["cat"], "templates": []}, InvalidRequestError, "templates"),
    ({"labels": ["cat"], "template_set": "none"}, InvalidRequestError, "template_set"),
    ({"labels": ["cat"], "templates": ["{}"], "template_set": "imagenet-7"}, InvalidRequestError, "template_set"),
    ({"labels": ["cat"], "top_k": 0}, InvalidRequestError, "top_k"),
    ({"labels": ["cat", "word " * 100]}, TextTooLongError, "labels.1"),
    ({"label_set": "not-there"}, LabelSetNotFoundError, "label_set"),
]


@pytest.mark.parametrize(("options", "kind", "param"), REFUSED, ids=str)
def test_what_classify_refuses(
    embedder: Any, options: dict[str, Any], kind: type[sightword.SightwordError], param: str
) -> None:
    with pytest.raises(kind) as refused:
        embedder.classify(PHOTOS[0], **options)
    assert refused.value.param == param
    assert refused.value.code == kind.code


def test_one_string_is_no_list_of_labels(embedder: Any) -> None:
    for options in ({"labels": "cat"}, {"labels": ["cat"], "templates": "a {}"}):
        with pytest.raises(TypeError, match="are a list of strings"):
            embedder.classify(PHOTOS[0], **options)
    with pytest.raises(TypeError, match="are a list of strings"):
        embedder.label_sets.put("one", "cat")


def test_bad_items_are_classified_as_errors(embedder: Any) -> None:
    with pytest.raises(InvalidImageError) as refused:
        embedder.classify([PHOTOS[0], b"x"], LABELS)
    assert refused.value.param == "inputs.1.image"
    found = embedder.classify([PHOTOS[0], b"x", PHOTOS[1]], LABELS, on_error="item", top_k=1)
    assert [entry.label for entry in found] == ["cat", None, "cup of coffee"]
    assert isinstance(found[1].error, InvalidImageError)
    assert found[0].error is None


def test_answers_of_many_predictions_are_asked_for_in_parts(client: sightword.Client, line: BadLine) -> None:
    """250,000 is the most in one answer: 25 items of 10,000 labels."""
    labels = [f"label {index}" for index in range(9_000)]
    with sightword.Client(line.url, timeout_s=250, concurrency=1) as narrow:
        found = narrow.classify([f"text {index}" for index in range(70)], labels)
    assert [len(entry.predictions) for entry in found] == [9_000] * 70
    assert len(line.calls) >= 3


def test_similarity(embedder: Any, service: Running) -> None:
    texts = ["a cat", "a cup of coffee", "a rocket", "a dog"]
    expected = post(service, "/similarity", queries=INPUTS, candidates=texts)
    found = embedder.similarity(PHOTOS, texts)
    np.testing.assert_allclose(found.cosine, expected["cosine"], atol=1e-6)
    np.testing.assert_allclose(found.probability, expected["probability"], atol=1e-5)
    assert found.cosine.dtype == found.probability.dtype == np.float32
    assert embedder.similarity("a cat", []).cosine.shape == (1, 0)
    for queries, candidates, param in (([b"x"], texts, "queries.0"), (PHOTOS, ["a", b"x"], "candidates.1")):
        with pytest.raises(InvalidImageError) as refused:
            embedder.similarity(queries, candidates)
        assert refused.value.param == f"{param}.image"


def test_rank(embedder: Any, service: Running) -> None:
    expected = post(service, "/v1/rerank", query="a rocket in the sky", documents=INPUTS)["results"]
    found = embedder.rank("a rocket in the sky", PHOTOS)
    assert [each.index for each in found] == [each["index"] for each in expected]
    np.testing.assert_allclose(
        [each.score for each in found], [each["relevance_score"] for each in expected], atol=1e-6
    )
    vectors = embedder.embed(["a rocket in the sky", *PHOTOS])
    np.testing.assert_allclose(
        [each.cosine for each in found], sorted(vectors[1:] @ vectors[0], reverse=True), atol=1e-6
    )
    [best] = embedder.rank("a rocket in the sky", PHOTOS, top_n=1)
    assert best.index == found[0].index == 2
    assert embedder.rank("a rocket", []) == []
    for query, candidates, param in ((b"x", PHOTOS, "query"), ("a", [b"x"], "candidates.0")):
        with pytest.raises(InvalidImageError) as refused:
            embedder.rank(query, candidates)
        assert refused.value.param == f"{param}.image"


def test_label_sets(embedder: Any) -> None:
    stored = embedder.label_sets.put("test-pets", ["cat", "dog"], templates=["a {}."])
    assert stored == sightword.LabelSet("test-pets", ["cat", "dog"], ["a {}."])
    assert embedder.label_sets.get("test-pets") == stored
    assert "test-pets" in embedder.label_sets.list()
    by_set = embedder.classify(PHOTOS[0], label_set="test-pets")
    [[best, other]] = [entry.predictions for entry in by_set]
    [[given, _]] = [entry.predictions for entry in embedder.classify(PHOTOS[0], ["cat", "dog"], templates=["a {}."])]
    assert best.label == given.label == "cat"
    assert best.score == pytest.approx(given.score, abs=1e-6)
    assert other.label == "dog"
    assert embedder.label_sets.delete("test-pets") is True
    assert embedder.label_sets.delete("test-pets") is False
    with pytest.raises(LabelSetNotFoundError):
        embedder.label_sets.get("test-pets")
    with pytest.raises(TextTooLongError):
        embedder.label_sets.put("test-long", ["cat", "word " * 100])
    embedder.label_sets.put("test-long", ["cat", "word " * 100], truncate=True)
    assert embedder.classify(PHOTOS[0], label_set="test-long")[0].label == "cat"
    embedder.label_sets.delete("test-long")
    for name in ("", "a/b", "..", "a b", "ä", "x" * 65):
        with pytest.raises(sightword.SightwordError):
            embedder.label_sets.put(name, ["cat"])


def test_info(embedder: Any, service: Running) -> None:
    theirs = httpx.get(f"{service.url}/info").json()
    info = embedder.info()
    assert info.version == theirs["version"]
    assert dict(info.template_sets) == theirs["template_sets"]
    model = info.model()
    for name in (
        "id",
        "digest",
        "dimensions",
        "context_length",
        "image_size",
        "logit_scale",
        "logit_bias",
        "precision",
    ):
        assert getattr(model, name) == theirs["models"][0][name]
    assert info.model(model.id) is model
    with pytest.raises(ModelNotFoundError, match="There is no model 'none' here, only"):
        info.model("none")


def test_a_model_that_is_not_served(service: Running) -> None:
    with sightword.Client(service.url, model="none") as client:
        for call in (lambda: client.embed("a"), lambda: client.rank("a", ["b"]), lambda: client.classify("a", ["b"])):
            with pytest.raises(ModelNotFoundError):
                call()
