"""/invocations and what SageMaker and Vertex AI say by variables: their contracts for containers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, Running, free_port, running
from service import platforms
from service.routes import ROUTERS
from service.settings import Settings, SettingsError
from service.web.path_aliases import path_aliases
from tests.service import pictures
from tests.service.conftest import checking_client

CAT = {"image": pictures.as_base64("cat")}
LABELS = ["a cat", "a rocket"]
PREDICT, HEALTH = "/v1/endpoints/7/deployedModels/9:predict", "/v1/endpoints/7/deployedModels/9"
NATIVE = {getattr(route, "path", "") for router in ROUTERS for route in router.routes}


@pytest.fixture(scope="module")
def vertex(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """As Vertex AI starts it, with keys."""
    variables = {"AIP_HTTP_PORT": "1", "AIP_PREDICT_ROUTE": PREDICT, "AIP_HEALTH_ROUTE": HEALTH}
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            folder = tmp_path_factory.mktemp("vertex")
            service = stack.enter_context(running(folder, bundle_path, api_keys="k" * 32))
        yield service


def post(client: httpx.Client, path: str, **kwargs: Any) -> Any:
    answer = client.post(path, **kwargs)
    assert answer.status_code == 200, answer.text
    return answer.json()


def alike(one: Any, other: Any) -> bool:
    """The same answer, but for what was computed a second time."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == (pytest.approx(other, abs=1e-6) if isinstance(one, float) else other))


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/embed", {"inputs": ["a cat", CAT], "dimensions": 16, "encoding_format": "base64"}),
        ("/embed", {"inputs": ["a", {"image": "bad!"}], "on_error": "item"}),
        ("/classify", {"inputs": [CAT], "labels": LABELS, "top_k": 1}),
    ],
)
def test_json_is_answered_as_the_native_routes_do(client: httpx.Client, path: str, request_: dict[str, Any]) -> None:
    assert alike(post(client, "/invocations", json=request_), post(client, path, json=request_))


def test_a_file_and_a_form(client: httpx.Client) -> None:
    file: dict[str, Any] = {"content": pictures.read("cat"), "headers": {"content-type": "image/jpeg"}}
    for path, query in (("/embed", "dimensions=8"), ("/classify", "labels=a cat,a rocket")):
        assert alike(post(client, f"/invocations?{query}", **file), post(client, f"{path}?{query}", **file))
    parts: dict[str, Any] = {"files": [("file", ("a.jpg", pictures.read("cat"))), ("labels", (None, "cat,dog"))]}
    assert alike(post(client, "/invocations", **parts), post(client, "/classify", **parts))
    stored = client.post("/invocations?label_set=no-such", **file)
    assert stored.json()["error"]["code"] == "label_set_not_found"


def test_a_matrix(client: httpx.Client) -> None:
    headers = {"accept": "application/octet-stream"}
    answer = client.post("/invocations", json={"inputs": ["a cat"]}, headers=headers)
    [native] = post(client, "/embed", json={"inputs": ["a cat"]})["data"]
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<f4"), np.array(native["embedding"], np.float32))


def test_instances_become_predictions(client: httpx.Client) -> None:
    instances = ["a cat", {"text": "a dog"}, CAT]
    answer = post(client, "/invocations", json={"instances": instances, "parameters": {"dimensions": 8}})
    native = post(client, "/embed", json={"inputs": instances, "dimensions": 8})
    assert answer.keys() == {"predictions"}
    assert alike(answer["predictions"], native["data"])
    answer = post(client, "/invocations", json={"instances": [CAT], "parameters": {"labels": LABELS}})
    assert alike(answer["predictions"], post(client, "/classify", json={"inputs": [CAT], "labels": LABELS})["data"])
    assert post(client, "/invocations", json={"instances": ["a"]})["predictions"][0]["index"] == 0


@pytest.mark.parametrize(
    ("request_", "code", "param"),
    [
        ({"instances": []}, "invalid_request", "instances"),
        ({"instances": ["a", {"image": "bad!"}]}, "invalid_image", "instances.1.image"),
        ({"instances": ["a", ""]}, "invalid_request", "instances.1"),
        ({"instances": ["a"] * 513}, "too_many_inputs", "instances"),
        ({"instances": ["a"], "parameters": {"dimensions": 10**6}}, "invalid_request", "parameters.dimensions"),
        ({"instances": ["a"], "parameters": {"dimensions": "8"}}, "invalid_request", "parameters.dimensions"),
        ({"instances": ["a"], "parameters": {"inputs": ["b"]}}, "invalid_request", "parameters.inputs"),
        ({"instances": ["a"], "parameters": {"labels": ["b", "b"]}}, "invalid_request", "parameters.labels.1"),
        ({"instances": ["a"], "parameters": {"labels": ["b", "c " * 200]}}, "text_too_long", "parameters.labels.1"),
        ({"instances": ["a"], "parameters": {"model": "x"}}, "model_not_found", "parameters.model"),
        ({"instances": ["a"], "parameters": []}, "invalid_request", "parameters"),
        ({"instances": ["a"], "inputs": ["b"]}, "invalid_request", "inputs"),
        ({"inputs": ["a"], "parameters": {}}, "invalid_request", "parameters"),
        ({}, "invalid_request", "inputs"),
    ],
)
def test_refusals_name_what_was_sent(request_: dict[str, Any], code: str, param: str, client: httpx.Client) -> None:
    error = client.post("/invocations", json=request_).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_vertex_chooses_the_paths(vertex: Running) -> None:
    body, key = {"instances": ["a cat"]}, {"x-api-key": "k" * 32}
    with httpx.Client(base_url=vertex.url, timeout=PATIENCE_S) as client:
        assert client.get(HEALTH).json() == {"status": "ready"}  # without a key, as /health/ready
        assert client.post(PREDICT, json=body).status_code == 401
        assert alike(
            post(client, PREDICT, json=body, headers=key), post(client, "/invocations", json=body, headers=key)
        )
        assert client.post(PREDICT.replace("predict", "%70redict"), json=body, headers=key).status_code == 404
        assert client.get(f"{HEALTH}/").status_code == 401
        assert client.request("DELETE", PREDICT, headers=key).status_code == 405
        paths = client.get("/openapi.json", headers=key).json()["paths"]
    assert {PREDICT, HEALTH} <= paths.keys()
    assert paths[PREDICT]["post"]["requestBody"] == paths["/invocations"]["post"]["requestBody"]
    assert vertex.metric("sightword_requests_total", route=PREDICT) == 0


def test_predict_of_vertex_goes_before_that_of_immich(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    with running(tmp_path, bundle_path) as service, checking_client(service) as client:
        answer = client.post("/predict", json={"instances": ["a cat"]})
        assert len(answer.json()["predictions"]) == 1
        paths = client.get("/openapi.json").json()["paths"]
        assert paths["/predict"]["post"]["tags"] == paths["/invocations"]["post"]["tags"]


def test_sagemaker_starts_it_with_an_argument(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, module="service serve") as service:
        assert httpx.get(f"{service.url}/ping", timeout=PATIENCE_S).status_code == 200


def test_variables_of_platforms_come_after_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", str(port))
    assert Settings.read({}).port == port
    monkeypatch.setenv("AIP_HTTP_PORT", "1234")
    assert Settings.read({}).port == 1234
    monkeypatch.setenv("SIGHTWORD_PORT", "1235")
    assert Settings.read({}).port == 1235
    assert Settings.read({"port": 1236}).port == 1236
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/a")
    assert Settings.read({}).predict_route == "/a"
    assert Settings.read({"predict_route": "/b"}).predict_route == "/b"
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "")
    assert Settings.read({}).health_route == ""
    assert platforms.read({}) == {}


def test_a_variable_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HTTP_PORT", "http")
    with pytest.raises(SettingsError, match="AIP_HTTP_PORT"):
        Settings.read({})


@pytest.mark.parametrize("name", ["predict_route", "health_route"])
@pytest.mark.parametrize(
    "path",
    [
        "predict",
        "/",
        "//host",
        "/a/",
        "/a/../b",
        "/./a",
        "/a b",
        "/a%20b",
        "/a?b",
        "/ä",
        "/{id}",
        "/a\n",
        "/" + "a" * 300,
    ],
)
def test_paths_that_are_none_stop_the_start(name: str, path: str) -> None:
    with pytest.raises(SettingsError, match=name.upper()):
        Settings.read({name: path})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"predict_route": "/embed"}, "PREDICT_ROUTE: /embed is a path"),
        ({"predict_route": "/admin/reload"}, "is a path"),
        ({"predict_route": "/health/live"}, "is a path"),
        ({"predict_route": "/ping"}, "is a path"),
        ({"predict_route": "/metrics"}, "is a path"),
        ({"health_route": "/docs"}, "HEALTH_ROUTE: /docs is a path"),
        ({"health_route": "/a", "predict_route": "/a"}, "is a path"),
        ({"predict_route": "/a", "apis": "openai"}, "sagemaker"),
    ],
)
def test_paths_that_would_hide_ours_stop_the_start(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        path_aliases(Settings.read(settings), NATIVE)


def test_paths_that_are_there_already() -> None:
    settings = Settings.read({"health_route": "/ping", "predict_route": "/invocations"})
    assert path_aliases(settings, NATIVE) == {}
    assert path_aliases(Settings.read({"health_route": "/health/ready"}), NATIVE) == {}
