"""What all compatible APIs share: which are on, how they name models, how many items they take, how they refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import Bundle
from model.manifest import BundleError
from service.errors import ERROR_KINDS, NATIVE_ERRORS, ApiError
from service.inference.shared_resources import SharedResources
from service.metrics import Metrics
from service.models import Models
from service.routes.compat import APIS
from service.settings import API_NAMES, ApiName, Settings, SettingsError
from tests.service import pictures
from tests.service.conftest import checking_client

CAT_URI = f"data:image/jpeg;base64,{pictures.as_base64('cat')}"
LONG_TEXT = " ".join(f"word{number} of a long description" for number in range(60))


@pytest.fixture(scope="module")
def named(bundle_path: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    aliases = f"text-embedding-3-small={bundle.id}, ViT-B-32__openai = {bundle.id}"
    with (
        running(
            tmp_path_factory.mktemp("named"),
            bundle_path,
            model_aliases=aliases,
            apis="openai",
            max_compatible_items="40",
        ) as service,
        checking_client(service) as client,
    ):
        yield client


def vectors(client: httpx.Client, path: str = "/v1/embeddings", **request: object) -> list[list[float]]:
    response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    return [entry["embedding"] for entry in response.json()["data"]]


def test_every_name_has_its_api() -> None:
    assert tuple(api.name for api in APIS) == API_NAMES == get_args(ApiName)


def test_a_string_that_is_an_image_uri_is_a_picture(client: httpx.Client) -> None:
    [native] = vectors(client, "/embed", inputs={"image": CAT_URI})
    for uri in (CAT_URI, CAT_URI.replace("data:image", "DATA:Image")):
        np.testing.assert_array_equal(vectors(client, input=[uri, "a cat"])[0], native)
    assert vectors(client, input="data: image of a cat") == vectors(client, "/embed", inputs="data: image of a cat")
    refusal = client.post("/v1/embeddings", json={"input": ["data:image/png;base64,AAAA"]})
    assert refusal.json()["error"]["code"] == "invalid_image"


@pytest.mark.parametrize("word", ["END", "end", True])
def test_long_texts_are_cut_at_their_end(word: object, client: httpx.Client) -> None:
    assert vectors(client, input=LONG_TEXT, truncate=word) == vectors(client, "/embed", inputs=LONG_TEXT, truncate=True)


def test_long_texts_are_cut_at_their_start(client: httpx.Client, bundle: Bundle) -> None:
    tokenizer = bundle.tokenizer()
    words = LONG_TEXT.split()
    while len(tokenizer.encode([" ".join(words)])[0]) > tokenizer.context_length:
        del words[0]
    [row] = tokenizer.encode([LONG_TEXT])
    cut = tokenizer.truncate(row, "start")
    assert len(cut) == tokenizer.context_length
    assert (cut[0], cut[1:]) == (row[0], row[1 - tokenizer.context_length :])
    [start] = vectors(client, input=LONG_TEXT, truncate="START")
    assert start != vectors(client, input=LONG_TEXT, truncate="END")[0]
    # Whole words at the end, and at most a part of one before them.
    assert np.dot(start, vectors(client, input=" ".join(words))[0]) > 0.98


@pytest.mark.parametrize("word", ["NONE", "none", False])
def test_long_texts_are_refused(word: object, client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["a", LONG_TEXT], "truncate": word})
    assert answer.json()["error"]["code"] == "text_too_long"
    other = client.post("/v1/embeddings", json={"input": ["a"], "truncate": "MIDDLE"})
    assert (other.status_code, other.json()["error"]["param"]) == (422, "truncate")


def test_as_many_items_as_openai_takes(client: httpx.Client, named: httpx.Client) -> None:
    texts = [f"text {number % 50}" for number in range(2049)]
    rows = vectors(client, input=texts[:2048])
    assert len(rows) == 2048
    assert rows[:50] == rows[2000:2048] + rows[48:50]
    refusal = client.post("/v1/embeddings", json={"input": texts}).json()["error"]
    assert (refusal["code"], refusal["param"]) == ("too_many_inputs", "input")
    assert client.post("/embed", json={"inputs": texts[:513]}).status_code == 422
    assert len(vectors(named, input=texts[:40])) == 40
    assert named.post("/v1/embeddings", json={"input": texts[:41]}).status_code == 422
    assert named.get("/info").json()["limits"]["max_compatible_items"] == 40


def test_who_lowers_one_limit_means_both() -> None:
    assert Settings.read({}).compatible_items() == 2048
    assert Settings.read({"max_items": 7}).compatible_items() == 7
    assert Settings.read({"max_items": 7, "max_compatible_items": 9}).compatible_items() == 9


def test_a_model_answers_to_its_aliases(named: httpx.Client, client: httpx.Client, bundle: Bundle) -> None:
    for name in ("text-embedding-3-small", "ViT-B-32__openai", bundle.id):
        response = named.post("/v1/embeddings", json={"model": name, "input": "a"})
        assert (response.status_code, response.json()["model"]) == (200, bundle.id)
        assert named.get(f"/v1/models/{name}").json()["id"] == name
    listed = [model["id"] for model in named.get("/v1/models").json()["data"]]
    assert listed == [bundle.id, "text-embedding-3-small", "ViT-B-32__openai"]
    assert named.get("/info").json()["models"][0]["aliases"] == listed[1:]
    assert client.post("/v1/embeddings", json={"model": listed[1], "input": "a"}).status_code == 404


@pytest.mark.parametrize(
    ("aliases", "words"),
    [
        ("gpt=other", "which is not served"),
        ("{id}={id}", "is the id of a model"),
        ("gpt", "must be ALIAS=MODEL"),
        ("=x", "must be ALIAS=MODEL"),
    ],
)
def test_aliases_that_lead_nowhere_stop_the_start(aliases: str, words: str, bundle: Bundle) -> None:
    def load() -> None:
        settings = Settings.read({"model_aliases": aliases.format(id=bundle.id)})
        with contextlib.closing(Models(SharedResources(settings, Metrics()))) as models:
            models.load()

    with pytest.raises((SettingsError, BundleError), match=words):
        load()


def test_apis_that_are_off_are_not_there(named: httpx.Client) -> None:
    paths = named.get("/openapi.json").json()["paths"]
    assert "/v1/embeddings" in paths
    assert "/v1/rerank" not in paths
    url = str(named.base_url.join("/v1/rerank"))
    answer = httpx.post(url, json={"query": "a", "documents": ["b"]}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    with pytest.raises(SettingsError, match="openai"):
        Settings.read({"apis": "opena"})
    assert Settings.read({"apis": ""}).apis == ()


@pytest.mark.parametrize("api", APIS, ids=[api.name for api in APIS])
def test_every_refusal_has_the_shape_of_its_api(api: object, service: Running) -> None:
    """Also of what no route sees: a wrong method, an unknown type of body."""
    shape = next(each.error_shape for each in APIS if each is api)
    rendered = shape.render(ApiError("invalid_request", "Wrong.", "input.0"))
    assert shape.model.model_validate(rendered).model_dump() == rendered
    path = next(each.router.routes[0] for each in APIS if each is api).path.replace("{id:path}", "x")  # type: ignore[attr-defined]
    for answer in (
        httpx.request("DELETE", f"{service.url}{path}", timeout=PATIENCE_S),
        httpx.post(f"{service.url}{path}", content=b"x", headers={"content-type": "text/x"}, timeout=PATIENCE_S),
    ):
        assert answer.status_code in (405, 415)
        assert answer.json().keys() == rendered.keys()
        if shape is not NATIVE_ERRORS and isinstance(answer.json()["error"], str):
            assert answer.json()["code"] in ERROR_KINDS


@pytest.mark.parametrize("field", ["message", "detail"])
def test_clients_that_read_other_fields_find_the_sentence(field: str, client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["a", ""]}).json()
    assert answer[field] == f"input.1: {answer['error']['message']}"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", "ready"), ("/healthz", "ready"), ("/ping", "ready"), ("/v1/health/ready", "ready"),
     ("/v2/health/ready", "ready"), ("/v1/health/live", "live"), ("/v2/health/live", "live"),
     ("/.well-known/ready", "ready"), ("/.well-known/live", "live")],
)  # fmt: skip
def test_health_is_asked_in_many_places(path: str, status: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert answer.json()["unix"] > 1.7e9
    assert client.head(path).status_code == 200
