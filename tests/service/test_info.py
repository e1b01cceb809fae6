"""What the service tells of itself: information, health, metrics, timing, schema."""

from __future__ import annotations

import base64
import re

import httpx
import pytest

from benchmarks.service_process import Running
from model import __version__
from model.bundle import Bundle
from service.http.connection_limits import ConnectionLimits
from tests.service import pictures

METRICS = [
    "sightword_requests_total",
    "sightword_request_seconds_bucket",
    "sightword_stage_seconds_bucket",
    "sightword_batch_items_bucket",
    "sightword_queue_items",
    "sightword_inference_items_total",
    "sightword_inference_executions_total",
    "sightword_rejections_total",
    "sightword_decoded_pixels_total",
    "sightword_model_info",
]


def test_info(client: httpx.Client, bundle: Bundle) -> None:
    info = client.get("/info").json()
    [model] = info["models"]
    assert model["id"] == bundle.id
    assert model["digest"] == bundle.digest
    assert (model["dimensions"], model["context_length"]) == (bundle.dimensions, bundle.context_length)
    assert (model["image_size"], model["precision"]) == (bundle.image_size, bundle.precision)
    assert model["logit_scale"] == pytest.approx(bundle.logit_scale)
    assert model["provider"].endswith("ExecutionProvider")
    assert model["fallback_nodes"] == {"image": {}, "text": {}}
    assert (model["library"], model["architecture"]) == (None, bundle.manifest.config.name)
    assert info["version"] == __version__
    assert info["limits"]["max_items"] == info["settings"]["max_items"] == 512
    assert info["limits"]["max_connections"] == ConnectionLimits.of_this_process().max_connections
    assert client.get("/models").json()["models"] == info["models"]


def test_workers_by_their_former_name_too(client: httpx.Client) -> None:
    [model] = client.get("/info").json()["models"]
    assert set(model["workers"]) == {"image", "text"}
    assert model["lanes"] == model["workers"]
    fields = client.get("/openapi.json").json()["components"]["schemas"]["ServedModel"]["properties"]
    assert fields["lanes"]["deprecated"] is True
    assert "deprecated" not in fields["workers"]


def test_limits_in_force_are_shown(narrow_client: httpx.Client) -> None:
    info = narrow_client.get("/info").json()
    assert info["limits"]["max_items"] == 32
    assert info["limits"]["max_body_bytes"] == 400_000
    assert info["models"][0]["max_batch"] == {"image": 4, "text": 4}


def test_health(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_metrics(client: httpx.Client, service: Running, bundle: Bundle) -> None:
    client.post("/embed", content=pictures.read("cat"), headers={"content-type": "image/png"})
    client.post("/embed", json={"inputs": ""})
    client.get("/no/such/path")
    text = client.get("/metrics").text
    for name in METRICS:
        assert re.search(rf"^{name}[ {{]", text, re.MULTILINE), name
    assert service.metric("sightword_model_info", model=bundle.id, digest=bundle.digest, precision="fp32") == 1
    assert service.metric("sightword_requests_total", route="/embed", status="422") >= 1
    assert service.metric("sightword_requests_total", route="unmatched", status="404") >= 1
    assert service.metric("sightword_decoded_pixels_total") > 0
    for stage in ("decode", "preprocess", "queue", "inference", "serialize"):
        assert service.metric("sightword_stage_seconds_count", stage=stage) >= 1


def test_server_timing(client: httpx.Client) -> None:
    file = pictures.read("cat") + b"not in the cache"
    body = {"inputs": ["a text that is not either", {"image": base64.b64encode(file).decode()}]}
    header = client.post("/embed", json=body).headers["server-timing"]
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", header))
    assert set(stages) == {"decode", "preprocess", "tokenize", "cache", "queue", "inference", "serialize", "total"}
    assert all(float(stages[stage]) <= float(stages["total"]) for stage in stages)


def test_the_schema_names_every_error(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    for path in ("/embed", "/similarity", "/classify"):
        answers = schema["paths"][path]["post"]["responses"]
        assert set(answers) == {"200", "401", "404", "413", "415", "422", "424", "429", "500", "503", "504"}
        for status in set(answers) - {"200"}:
            reference = answers[status]["content"]["application/json"]["schema"]["$ref"]
            assert reference == "#/components/schemas/ErrorBody"


def test_references_in_the_schema_resolve(client: httpx.Client) -> None:
    answer = client.get("/openapi.json")
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))
    assert {"EmbedRequest", "SimilarityRequest", "ClassifyRequest", "ErrorBody"} <= names
    assert names <= set(answer.json()["components"]["schemas"])


def test_the_documentation_page(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 200


def test_the_documentation_page_asks_nobody_else(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/")
        assert client.get(asset).status_code == 200
    assert client.get("/static-offline-docs/none.js").status_code == 404
