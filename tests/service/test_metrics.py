"""What /metrics shows: the contract's list, in a form that Prometheus takes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.service_process import Running, running
from model.bundle import Bundle
from model.runtime.engine import Engine
from service.inference.pipeline import Pipeline
from service.request_context import STAGES
from service.settings import Settings
from service.state import Service
from tests.service import pictures

LABELS = {
    "sightword_requests": {"route", "status"},
    "sightword_request_seconds": {"route"},
    "sightword_stage_seconds": {"stage"},
    "sightword_batch_items": {"tower"},
    "sightword_queue_items": set(),
    "sightword_queue_bytes": set(),
    "sightword_inference_items": {"tower"},
    "sightword_inference_executions": {"tower"},
    "sightword_cache_lookups": {"tier", "outcome"},
    "sightword_rejections": {"reason"},
    "sightword_decoded_pixels": set(),
    "sightword_model_info": {"model", "digest", "precision", "provider"},
}


@pytest.fixture
def families(client: httpx.Client) -> dict[str, Metric]:
    """After requests that move all of them."""
    item = {"image": pictures.as_base64("rocket")}
    for _ in range(2):
        client.post("/embed", json={"inputs": ["a text for the metrics", item]}).raise_for_status()
    assert client.post("/embed", json={"inputs": []}).status_code == 422
    text = client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_every_metric_of_the_contract_is_there_with_its_labels(families: dict[str, Metric]) -> None:
    for name, labels in LABELS.items():
        family = families[name]
        assert family.documentation.endswith(".")
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
    assert values(families, "sightword_stage_seconds_count", "stage") >= set(STAGES) - {"fetch"}
    assert values(families, "sightword_cache_lookups_total", "outcome") >= {"hit", "miss"}
    assert "invalid_request" in values(families, "sightword_rejections_total", "reason")
    assert all(name.startswith(("sightword_", "process_")) for name in families)


def values(families: dict[str, Metric], name: str, label: str) -> set[str]:
    return {
        sample.labels[label]
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def test_buckets_tell_the_stages_apart(families: dict[str, Metric]) -> None:
    """Not all of a stage's requests may fall into the first or the last bucket."""
    buckets: dict[str, list[float]] = {}
    for sample in families["sightword_stage_seconds"].samples:
        if sample.name.endswith("_bucket"):
            buckets.setdefault(sample.labels["stage"], []).append(sample.value)
    for stage, counts in buckets.items():
        assert counts[0] < counts[-1], stage
        assert counts[-2] > 0, stage


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool on this machine")
def test_prometheus_has_nothing_to_object_to(families: dict[str, Metric], service: Running) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_paths_that_do_not_exist_make_no_series(client: httpx.Client) -> None:
    for number in range(3):
        client.get(f"/nowhere-{number}")
    text = client.get("/metrics").text
    assert "nowhere" not in text
    assert 'route="unmatched",status="404"' in text


def test_readiness_follows_loading_and_draining(bundle: Bundle, bundle_path: Path, engine: Engine) -> None:
    service = Service(Settings.read({"model": str(bundle_path), "max_batch": 8}))
    assert b"\nsightword_ready 0.0\n" in service.metrics.render()[0]
    service.models.serve([Pipeline(bundle, engine, service.shared)])
    assert b"\nsightword_ready 1.0\n" in service.metrics.render()[0]
    service.draining = True
    assert b"\nsightword_ready 0.0\n" in service.metrics.render()[0]
    asyncio.run(service.aclose())


def test_openmetrics_for_who_accepts_it(client: httpx.Client) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    # As Prometheus asks, and as somebody who wants to see what a nonsense version does.
    for accept in (
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2",
        "application/openmetrics-text;version=x",
    ):
        answer = client.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        names = {family.name for family in openmetrics(answer.text)}
        assert {"sightword_requests", "sightword_ready", "sightword_stage_seconds"} <= names


def test_failures_to_store_label_sets_are_counted_by_kind(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    with running(tmp_path, bundle_path, label_sets=str(tmp_path / "occupied")) as service:
        before = service.metric("sightword_label_set_errors_total", kind="occupied")
        assert service.metric("sightword_label_set_errors_total", kind="full") == 0
        assert httpx.put(f"{service.url}/label-sets/x", json={"labels": ["a"]}, timeout=60).status_code == 503
        assert service.metric("sightword_label_set_errors_total", kind="occupied") > before
