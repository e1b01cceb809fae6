"""What Prometheus of the project sees of a service under load: every rule has a value, every panel an answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.containers.load import Load
from tests.containers.project import ROOT, Project, docker, wait_for

RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "sightword.json"
COFFEE = (ROOT / "model" / "probe_data" / "coffee.jpg").read_bytes()
# Nothing of these happens in a healthy project without a GPU.
QUIET = ("sightword_redis_errors_total", "sightword_training_", "sightword_device_memory_bytes")


@pytest.fixture(scope="module")
def prometheus(project: Project) -> Iterator[httpx.Client]:
    """After a while of load that moves every metric, also pictures, refusals and a model that was swapped in."""
    service = project.url("SIGHTWORD_PORT")
    wait_for("ready", lambda: httpx.get(f"{service}/health/ready").status_code == 200)
    with (
        httpx.Client(base_url=project.url("PROMETHEUS_PORT"), timeout=30) as client,
        Load("127.0.0.1", project.ports["SIGHTWORD_PORT"], clients=2).running() as load,
    ):
        admin = {"x-api-key": project.environment["SIGHTWORD_ADMIN_KEY"]}
        for _ in range(3):
            httpx.post(f"{service}/embed", content=COFFEE, headers={"content-type": "image/jpeg"}).raise_for_status()
            assert httpx.post(f"{service}/embed", json={"inputs": []}).status_code == 422
            httpx.post(f"{service}/admin/reload", headers=admin, timeout=60).raise_for_status()
            answered = load.outcomes["200"]
            wait_for("load", lambda before=answered: load.outcomes["200"] > before + 100)
        yield client


def ask(prometheus: httpx.Client, expression: str) -> list[Any]:
    answer = prometheus.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[Any] = answer["data"]["result"]
    return found


def test_every_target_is_up(prometheus: httpx.Client) -> None:
    def all_up() -> bool:
        targets = prometheus.get("/api/v1/targets?state=active").json()["data"]["activeTargets"]
        return {t["labels"]["job"] for t in targets} >= {"sightword", "prometheus"} and all(
            t["health"] == "up" for t in targets
        )

    wait_for("all targets are up", all_up)


@pytest.mark.parametrize("rule", [rule["record"] for group in RULES for rule in group["rules"] if "record" in rule])
def test_every_recording_rule_has_a_value(prometheus: httpx.Client, rule: str) -> None:
    wait_for(f"a value of {rule}", lambda: [each for each in ask(prometheus, rule) if each["value"][1] != "NaN"])


def panels() -> list[Any]:
    found = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in found
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize("expression", panels())
def test_every_panel_has_an_answer(prometheus: httpx.Client, expression: str) -> None:
    plain = expression.replace("$job", ".*").replace("$instance", ".*")
    if any(name in plain for name in QUIET):
        ask(prometheus, plain)  # at least it is a query
        return
    wait_for(f"an answer to {plain}", lambda: ask(prometheus, plain))


def test_the_dashboard_is_what_its_description_makes(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "deploy" / "grafana"))
    try:
        import build_dashboard
    finally:
        sys.path.pop(0)
    assert json.loads(DASHBOARD.read_text("utf-8")) == build_dashboard.dashboard()


def test_two_alerts_fire_and_end(project: Project, prometheus: httpx.Client) -> None:
    """Redis away, and a service that does not answer; with the waits of the rules divided by ten."""

    # Of this service only: `up` of replicas that were removed goes on being 0 for as long as Prometheus looks back.
    networks = json.loads(project.inspect("sightword", "{{json .NetworkSettings.Networks}}"))
    instances = {f"{network['IPAddress']}:8000" for network in networks.values()}

    def firing(name: str) -> bool:
        found = ask(prometheus, f'ALERTS{{alertname="{name}", alertstate="firing"}}')
        return any(each["metric"]["instance"] in instances for each in found)

    project.compose("kill", "redis")
    wait_for("SightwordRedisDown", lambda: firing("SightwordRedisDown"))
    project.compose("start", "redis")
    wait_for("the end of SightwordRedisDown", lambda: not firing("SightwordRedisDown"))
    container = project.container("sightword")
    docker("pause", container)
    try:
        wait_for("SightwordDown", lambda: firing("SightwordDown"))
    finally:
        docker("unpause", container)
    wait_for("the end of SightwordDown", lambda: not firing("SightwordDown"))
