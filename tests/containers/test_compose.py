"""`docker compose up` as an operator meets it: what it answers, keeps, and lets nobody do."""

from __future__ import annotations

import json
import subprocess
import time

import httpx
import pytest

from tests.containers.load import Load
from tests.containers.project import ROOT, Project, docker, wait_for

COFFEE = (ROOT / "model" / "probe_data" / "coffee.jpg").read_bytes()


def redis_up(service: httpx.Client) -> str:
    [line] = [line for line in service.get("/metrics").text.splitlines() if line.startswith("sightword_redis_up ")]
    return line.split()[1]


def test_a_photograph_is_classified(service: httpx.Client) -> None:
    headers = {"content-type": "image/jpeg"}
    answer = service.post("/classify?labels=cat,cup%20of%20coffee", content=COFFEE, headers=headers).json()
    assert answer["data"][0]["label"] == "cup of coffee"


def test_a_label_set_survives_a_restart_of_everything(project: Project, service: httpx.Client) -> None:
    service.put("/label-sets/kept", json={"labels": ["cat", "dog"]}).raise_for_status()
    project.compose("restart")
    url = project.url("SIGHTWORD_PORT")
    wait_for("ready again", lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    wait_for("Redis again", lambda: httpx.get(f"{url}/label-sets/kept").status_code == 200)
    assert httpx.get(f"{url}/label-sets/kept").json()["labels"] == ["cat", "dog"]


def test_redis_killed_and_back(project: Project, service: httpx.Client) -> None:
    wait_for("Redis is asked", lambda: redis_up(service) == "1.0")
    project.compose("kill", "redis")

    def left_alone() -> bool:
        answer = service.post("/embed", json={"inputs": [f"a text that no cache has: {time.monotonic()}"]})
        assert answer.status_code == 200
        return redis_up(service) == "0.0"

    wait_for("Redis is left alone", left_alone)
    project.compose("start", "redis")
    wait_for("Redis is asked again", lambda: redis_up(service) == "1.0")


def test_the_container_may_write_nothing_be_nobody_and_gain_nothing(project: Project) -> None:
    tried = subprocess.run(
        ["docker", "exec", project.container("sightword"), "sh", "-c", "touch /opt/sightword/x || touch /x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode != 0
    assert "Read-only file system" in tried.stderr
    status = docker("exec", project.container("sightword"), "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"


@pytest.mark.parametrize("program", ["pip", "gcc", "cc", "make"])
def test_no_tools_to_build_with_are_inside(project: Project, program: str) -> None:
    found = subprocess.run(
        ["docker", "exec", project.container("sightword"), "sh", "-c", f"command -v {program} || python3 -m {program}"],
        capture_output=True,
        check=False,
    )
    assert found.returncode != 0


def test_nothing_is_published_but_the_service_and_prometheus_on_this_machine(project: Project) -> None:
    published = {
        service: project.inspect(service, "{{json .NetworkSettings.Ports}}")
        for service in ("sightword", "redis", "prometheus")
    }
    assert "HostPort" not in published["redis"]
    for service in ("sightword", "prometheus"):
        assert '"HostIp":"127.0.0.1"' in published[service]
        assert "0.0.0.0" not in published[service]


def test_the_password_of_redis_is_drawn_and_wanted(project: Project) -> None:
    refused = docker("exec", project.container("redis"), "redis-cli", "ping")
    assert "NOAUTH" in refused
    assert "SIGHTWORD_REDIS_URL" not in project.inspect("sightword", "{{json .Config.Env}}")


def test_docker_stop_under_load_loses_nothing(project: Project, service: httpx.Client) -> None:
    container = project.container("sightword")
    # By its own address: what publishes a port accepts connections for a container that no longer does.
    networks = json.loads(project.inspect("sightword", "{{json .NetworkSettings.Networks}}"))
    with Load(networks[f"{project.name}_outside"]["IPAddress"], 8000, clients=8).running() as load:
        wait_for("load", lambda: load.outcomes["200"] > 100)
        docker("stop", "--time", "40", container)
    assert not load.lost
    assert load.outcomes["nobody listens"]  # the load outlived the service
    assert project.inspect("sightword", "{{.State.ExitCode}}") == "0"
    project.compose("start", "sightword")


def test_replicas_are_replaced_under_load_without_losing_a_request(project: Project) -> None:
    project.compose("--profile", "replicas", "up", "--detach", "--wait", "balancer")
    port = project.ports["BALANCER_PORT"]
    ready = f"http://127.0.0.1:{port}/health/ready"
    wait_for("the balancer has found them", lambda: httpx.get(ready).status_code == 200)
    before = set(project.compose("ps", "--quiet", "replica").split())
    with Load("127.0.0.1", port, clients=8).running() as load:
        wait_for("load", lambda: load.outcomes["200"] > 100)
        roll = str(ROOT / "deploy" / "compose" / "roll.sh")
        done = subprocess.run(
            [roll, *project.options], env=project.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answered = load.outcomes["200"]
        wait_for("load after it", lambda: load.outcomes["200"] > answered + 100)
    assert not load.lost
    assert load.outcomes["nobody listens"] == 0
    after = set(project.compose("ps", "--quiet", "replica").split())
    assert len(after) == len(before) == 2
    assert not before & after


def test_the_image_is_small(images: None) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", "sightword:cpu"))
    base = int(docker("image", "inspect", "--format", "{{.Size}}", "python:3.11-slim-bookworm"))
    assert size - base <= 300e6
