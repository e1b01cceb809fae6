"""A bundle whose texts are categories, served for real: its scores are torch's, and no other text is known to it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import InferenceClient
from torch.nn import functional as F

import sightword
from benchmarks.service_process import Running, running
from model.bundle import Bundle
from model.export.graphs import ImageGraph
from model.images.preprocessing import load_image
from model.network import Network
from model.tokenizers.categories import Category
from tests.category_models import LABELS, category_bundle
from tests.service import pictures
from tests.service.browser import browsing
from tests.service.conftest import checking_client

PICTURES = ("cat", "coffee", "temple")
FILES = [pictures.read(name) for name in PICTURES]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Bundle]:
    return category_bundle(tmp_path_factory.mktemp("categories") / "bundle")


@pytest.fixture(scope="module")
def served(made: tuple[Network, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Beside the checkpoint that ships, which reads any text."""
    folder = tmp_path_factory.mktemp("service")
    bundles = Path(f"{made[1].path},{Path('model/bundled/sightword-small').resolve()}")
    # Fewer labels than it has categories may be sent.
    with running(folder, bundles, max_labels="8", max_batch="4", timeout_s="120") as service:
        yield service


@pytest.fixture
def client(served: Running) -> Iterator[httpx.Client]:
    with checking_client(served) as client:
        yield client


@pytest.fixture(scope="module")
def scores(made: tuple[Network, Bundle]) -> np.ndarray:
    """Torch's own, [pictures, categories]: the sigmoid of scale times cosine plus bias."""
    network, bundle = made
    assert network.logit_bias is not None
    pixels = np.stack([load_image(file, bundle.preprocessing) for file in FILES])
    with torch.no_grad():
        images = ImageGraph(network, bundle.preprocessing)(torch.from_numpy(pixels))
        rows = F.normalize(network.get_parameter("text.embedding.weight")[1:], dim=-1)
        logits = network.logit_scale.exp() * images @ rows.T + network.logit_bias
    return np.asarray(torch.sigmoid(logits).numpy())


def image(file: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(file).decode()}


INPUTS = [image(file) for file in FILES]


def refused(answer: httpx.Response) -> tuple[str, str | None]:
    error = answer.json()["error"]
    return error["code"], error["param"]


@pytest.mark.parametrize("named", [{"label_set": "categories"}, {}, {"templates": ["{}"]}, {"multi_label": True}])
def test_its_own_vocabulary_is_scored_as_torch_does(
    client: httpx.Client, scores: np.ndarray, named: dict[str, Any]
) -> None:
    answer = client.post("/classify", json={"inputs": INPUTS, "top_k": 5, **named}).json()
    for entry, expected in zip(answer["data"], scores, strict=True):
        order = np.argsort(-expected)[:5]
        assert [each["label"] for each in entry["predictions"]] == [LABELS[index] for index in order]
        np.testing.assert_allclose([each["score"] for each in entry["predictions"]], expected[order], atol=1e-4)
        assert entry["label"] == LABELS[order[0]]
    assert answer["usage"] == {"texts": 0, "tokens": 0, "images": 3}


def test_labels_are_names_and_scored_alone(client: httpx.Client, scores: np.ndarray) -> None:
    labels = ["CAT", "frankfurter bun", "crane (crane.n.05)", "depository.n.01"]
    answer = client.post("/classify", json={"inputs": INPUTS[0], "labels": labels}).json()
    got = {each["label"]: each["score"] for each in answer["data"][0]["predictions"]}
    np.testing.assert_allclose([got[label] for label in labels], scores[0, [1, 4, 3, 8]], atol=1e-4)
    lone = client.post("/classify", json={"inputs": INPUTS[0], "labels": ["cat"]}).json()["data"][0]
    assert lone["score"] == pytest.approx(scores[0, 1], abs=1e-4)  # no share among labels


def test_a_picture_as_body_and_a_form_ask_it_too(client: httpx.Client, scores: np.ndarray) -> None:
    best = LABELS[int(scores[0].argmax())]
    body = client.post("/classify?top_k=1", content=FILES[0], headers={"content-type": "image/png"}).json()
    form = client.post("/classify", files={"file": FILES[0]}, data={"label_set": "categories", "top_k": "1"}).json()
    assert [each["data"][0]["label"] for each in (body, form)] == [best, best]


def test_an_unknown_text_is_the_error_of_its_item(client: httpx.Client, made: tuple[Network, Bundle]) -> None:
    texts = ["dog", "domestik dog", "crane", "Turkey (turkey.n.02)"]
    answer = client.post("/embed", json={"inputs": texts, "on_error": "item"}).json()
    assert [entry.get("error", {}).get("code") for entry in answer["data"]] == [None, *["unknown_text"] * 2, None]
    assert answer["data"][1]["error"]["message"] == (
        "This model knows its 9 categories by name only, and 'domestik dog' is none of them: did you mean 'dog' or "
        "'hot dog'?"
    )
    assert answer["data"][1]["error"]["param"] == "inputs.1"
    rows = F.normalize(made[0].get_parameter("text.embedding.weight").detach(), dim=-1)
    np.testing.assert_allclose(answer["data"][3]["embedding"], rows[6], atol=1e-5)
    assert refused(client.post("/embed", json={"inputs": texts})) == ("unknown_text", "inputs.1")
    similar = client.post("/similarity", json={"queries": ["dog", "zebra"], "candidates": INPUTS, "on_error": "item"})
    assert similar.json()["cosine"][1] is None
    assert similar.json()["errors"]["queries"][0]["error"]["code"] == "unknown_text"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/similarity", {"queries": "zebra", "candidates": ["dog"]}, ("unknown_text", "queries")),
        ("/classify", {"inputs": "zebra"}, ("unknown_text", "inputs")),
        ("/classify", {"inputs": "dog", "labels": ["cat", "zebra"]}, ("unknown_text", "labels.1")),
        ("/classify", {"inputs": "dog", "labels": ["cat"], "label_set": "categories"}, ("invalid_request", "labels")),
        ("/classify", {"inputs": "dog", "templates": ["a {}."]}, ("invalid_template", "templates")),
        (
            "/classify", {"inputs": "dog", "labels": ["cat"], "template_set": "imagenet-7"},
            ("invalid_template", "template_set"),
        ),
        ("/classify", {"inputs": "dog", "label_set": "other"}, ("label_set_not_found", "label_set")),
        ("/classify", {"inputs": "dog", "model": "sightword-small"}, ("invalid_request", "labels")),
        (
            "/classify", {"inputs": "dog", "model": "sightword-small", "label_set": "categories"},
            ("label_set_not_found", "label_set"),
        ),
        ("/v1/embeddings", {"input": ["dog", "zebra"]}, ("unknown_text", "input.1")),
        ("/v1/rerank", {"query": "zebra", "documents": ["dog"]}, ("unknown_text", "query")),
    ],
)  # fmt: skip
def test_what_is_refused(client: httpx.Client, path: str, body: dict[str, Any], expected: tuple[str, str]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (404, 422)
    error = answer.json().get("error") or answer.json()
    assert (error["code"], error["param"]) == expected


def test_the_set_is_listed_and_nobody_can_store_or_remove_it(
    client: httpx.Client, made: tuple[Network, Bundle]
) -> None:
    [listed] = client.get("/label-sets").json()["label_sets"]
    assert (listed["name"], listed["label_count"], listed["own_of"]) == ("categories", 9, "tiny-categories")
    shown = client.get("/label-sets/categories").json()
    assert (shown["labels"], shown["templates"]) == ([*LABELS], ["{}"])
    for model in ("tiny-categories", "sightword-small"):
        stored = client.put("/label-sets/categories", json={"labels": ["cat"], "model": model})
        assert refused(stored) == ("invalid_request", "name")
    assert refused(client.delete("/label-sets/categories")) == ("invalid_request", "name")


def test_a_set_of_names_is_stored_and_used(client: httpx.Client, scores: np.ndarray) -> None:
    assert client.put("/label-sets/pets", json={"labels": ["dog", "cat"]}).status_code == 201
    answer = client.post("/classify", json={"inputs": INPUTS[0], "label_set": "pets"}).json()
    got = {each["label"]: each["score"] for each in answer["data"][0]["predictions"]}
    np.testing.assert_allclose([got["dog"], got["cat"]], scores[0, :2], atol=1e-4)
    assert refused(client.put("/label-sets/zoo", json={"labels": ["zebra"]})) == ("unknown_text", "labels.0")
    # One that was stored for a model that reads any text has that one's prompts.
    client.put("/label-sets/photos", json={"labels": ["dog"], "model": "sightword-small"})
    asked = {"inputs": INPUTS[0], "label_set": "photos"}
    assert refused(client.post("/classify", json=asked)) == ("invalid_template", "label_set")
    assert client.post("/classify", json={**asked, "templates": ["{}"]}).json()["data"][0]["label"] == "dog"
    for name in ("pets", "photos"):
        assert client.delete(f"/label-sets/{name}").status_code == 204


def test_info_says_what_it_knows(client: httpx.Client) -> None:
    first, second = client.get("/info").json()["models"]
    assert (first["categories"], first["context_length"]) == (9, 1)
    assert second["categories"] is None


def test_clients_of_others_ask_it(served: Running, client: httpx.Client, scores: np.ndarray) -> None:
    face = InferenceClient(f"{served.url}/models/tiny-categories")
    found = face.zero_shot_image_classification(FILES[0], ["dog", "cat"])
    assert {each.label: each.score for each in found} == pytest.approx(
        {"dog": scores[0, 0], "cat": scores[0, 1]}, abs=1e-4
    )
    jina = client.post("/v1/classify", json={"input": [INPUTS[0]], "label_set": "categories", "top_k": 1}).json()
    assert jina["data"][0]["prediction"] == LABELS[int(scores[0].argmax())]


def test_our_client_and_the_model_in_this_process_agree(
    served: Running, made: tuple[Network, Bundle], scores: np.ndarray
) -> None:
    with sightword.Client(served.url) as remote, sightword.load(str(made[1].path), provider="cpu") as local:
        for model in (remote, local):
            [found] = model.classify([FILES[0]], label_set="categories", top_k=3)
            np.testing.assert_allclose([each.score for each in found.predictions], -np.sort(-scores[0])[:3], atol=1e-4)
            [lone] = model.classify([FILES[0]], ["cat"])
            assert lone.score == pytest.approx(scores[0, 1], abs=1e-4)
            with pytest.raises(sightword.errors.UnknownTextError, match=r"inputs\.1.*did you mean 'dog'") as caught:
                model.embed(["dog", "dogg"])
            assert caught.value.param == "inputs.1"
            assert model.label_sets.get("categories").labels == [*LABELS]
            assert "categories" in model.label_sets.list()
            with pytest.raises(sightword.errors.InvalidRequestError, match="name"):
                model.label_sets.put("categories", ["cat"])
            with pytest.raises(sightword.errors.InvalidTemplateError):
                model.classify([FILES[0]], ["cat"], templates=["a {}."])


def test_the_page_offers_what_the_model_knows(served: Running) -> None:
    with browsing() as page:
        page.open(f"{served.url}/")
        page.wait(lambda: page.one("#label-set").get_attribute("value") == "categories")
        assert not page.one("#labels-field").is_displayed()
        page.one("#classify-outcome button").click()
        page.wait(lambda: page.texts("#classify-outcome .best"))
        assert page.one("#classify-outcome .best").text in LABELS
        assert "knows 9 categories by name" in str(page.one("#other-model-facts").get_attribute("textContent"))
        page.run(
            "const m = document.querySelector('#model'); m.selectedIndex = 1; m.dispatchEvent(new Event('change'))"
        )
        page.wait(lambda: page.one("#labels-field").is_displayed())
        assert page.one("#label-set").get_attribute("value") == ""
        assert not page.errors()


def test_ten_thousand_categories_are_not_embedded_again(tmp_path: Path) -> None:
    categories = [Category(f"c{i}.n.01", (f"thing {i}",)) for i in range(10_500)]
    _, bundle = category_bundle(tmp_path / "bundle", categories)
    with running(tmp_path, bundle.path, max_batch="64") as service, checking_client(service) as client:
        took = []
        for _ in range(3):
            began = time.monotonic()
            answer = client.post("/classify", json={"inputs": INPUTS[0], "label_set": "categories", "top_k": 5})
            took.append(time.monotonic() - began)
            assert len(answer.json()["data"][0]["predictions"]) == 5
        assert min(took) < 2
        ran = {tower: _ran(client, tower) for tower in ("image", "text")}
        assert ran == {"image": 1, "text": 0}  # the picture is cached, and no category was asked for
        everything = client.post("/classify", json={"inputs": [INPUTS[0]] * 100})
        assert refused(everything) == ("too_many_inputs", "top_k")
        unknown = client.post("/embed", json={"inputs": [f"thung {i}" for i in range(500)], "on_error": "item"}).json()
        assert all("did you mean 'thing" in entry["error"]["message"] for entry in unknown["data"])


def _ran(client: httpx.Client, tower: str) -> float:
    """Items that a tower has computed for requests."""
    name = f'sightword_inference_items_total{{tower="{tower}"}} '
    return sum(
        float(line.removeprefix(name)) for line in client.get("/metrics").text.splitlines() if line.startswith(name)
    )
