"""What the container files say about the service is true."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import Running
from model.environment import PREFIX, VARIABLES

ROOT = Path(__file__).parents[2]
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"


def check_health(port: int) -> int:
    # A proxy of the environment must not come between the check and the service.
    environment = {**os.environ, "SIGHTWORD_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, HEALTHCHECK], env=environment, timeout=30, check=False).returncode


def test_the_health_check_sees_a_ready_service(service: Running) -> None:
    assert check_health(httpx.URL(service.url).port or 0) == 0


def test_the_health_check_sees_that_there_is_none() -> None:
    assert check_health(9) == 1


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml"])
def test_the_settings_named_there_exist(name: str) -> None:
    given = re.findall(rf"^\s*(?:ENV )?({PREFIX}\w+)[:=]", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert given
    assert set(given) <= set(VARIABLES)


def test_the_containers_time_to_stop_is_longer_than_the_drain() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    [stop_s] = re.findall(r"stop_grace_period: (\d+)s", compose)
    [drain_s] = re.findall(r'SIGHTWORD_DRAIN_S: "(\d+)"', compose)
    assert int(stop_s) > int(drain_s) + 5


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "service-only.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules-test.yml"),
    ],
)
def test_prometheus_configuration_and_rules(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=ROOT / "deploy" / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_its_section_in_the_runbook() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text("utf-8")
    tests = (ROOT / "deploy" / "prometheus" / "rules-test.yml").read_text("utf-8")
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) >= 10
    for alert in alerts:
        assert f"alertname: {alert}\n        eval_time" in tests  # one that fires
        assert f"\n## {alert}\n" in runbook
        assert f"runbook: docs/runbook.md#{alert.lower()}" in rules


def test_the_limits_of_the_queue_are_metrics(service: Running) -> None:
    limits = httpx.get(f"{service.url}/info").json()["limits"]
    text = httpx.get(f"{service.url}/metrics").text
    for name in ("queue_items", "queue_bytes"):
        [value] = re.findall(rf"^sightword_{name}_limit (\S+)$", text, re.MULTILINE)
        assert float(value) == limits[name]


@pytest.mark.parametrize("file", ["Dockerfile", "tests/containers/haproxy.Dockerfile"])
def test_the_dockerfiles_have_no_complaints(file: str) -> None:
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), ROOT / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_base_images_are_named_by_an_exact_tag_in_one_place() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "# syntax" not in dockerfile
    assert not re.findall(r"^FROM (?!\$\{PYTHON_IMAGE\}|[a-z-]+ AS )", dockerfile, re.MULTILINE)
    assert re.findall(r"^ARG PYTHON_IMAGE=\S+:\d+\.\d+-\S+$", dockerfile, re.MULTILINE)
    images = re.findall(
        r"^\s+image: (?!sightword:)(\S+)$", (ROOT / "docker-compose.yml").read_text("utf-8"), re.MULTILINE
    )
    assert images
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


def test_the_compose_file_is_as_its_schema_wants_it(tmp_path: Path) -> None:
    def check(file: Path) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file]
        return subprocess.run(command, capture_output=True, text=True)

    compose = ROOT / "docker-compose.yml"
    done = check(compose)
    assert done.returncode == 0, done.stdout
    misspelt = tmp_path / "misspelt.yml"
    misspelt.write_text(compose.read_text("utf-8").replace("mem_limit: 1g", "mem_limits: 1g"), "utf-8")
    assert "mem_limits" in check(misspelt).stdout


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("tls", [False, True])
def test_the_balancer_takes_its_configuration_with_and_without_tls(tls: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "REPLICA_NAME": "replica", "TLS_CERTIFICATE": ""}  # as compose gives it by default
    if tls:
        import trustme

        issued = trustme.CA().issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
        environment["TLS_CERTIFICATE"] = str(tmp_path / "tls.pem")
    command = ["haproxy", "-c", "-V", "-f", str(ROOT / "deploy" / "compose" / "haproxy.cfg")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = subprocess.run(
        command, env=environment | {"TLS_CERTIFICATE": "/nowhere.pem"}, capture_output=True, text=True
    )
    assert broken.returncode != 0


def test_grafanas_own_library_knows_every_field_of_the_dashboard() -> None:
    """What its types read and write again is what we wrote: a field or value that Grafana has not would be lost."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    ours = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "sightword.json").read_text("utf-8"))
    theirs = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
    assert not list(_lost(ours, theirs, "dashboard"))


def _lost(ours: object, theirs: object, where: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from _lost(value, theirs.get(name, "missing"), f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{where}[{index}]")
    elif ours != theirs:
        yield where
