"""`docker compose up` as an operator meets it: what it answers, keeps, and lets nobody do."""

from __future__ import annotations

import json
import os
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


@pytest.mark.parametrize("profile", ["", "gpu", "replicas", "pull", "training"])
def test_compose_has_no_complaints(engine: None, profile: str) -> None:
    """With no variable set at all."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    chosen = ["--profile", profile] if profile else []
    command = ["docker", "compose", *chosen, "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_all_that_runs_on_has_bounds_and_waits_for_what_it_needs(engine: None) -> None:
    every = ["--profile", "gpu", "--profile", "replicas", "--profile", "pull", "--profile", "training"]
    services = json.loads(docker("compose", *every, "config", "--format", "json"))["services"]
    for name, service in services.items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        kept = (service["read_only"], service["cap_drop"], service["security_opt"])
        assert kept == (True, ["ALL"], ["no-new-privileges:true"]), name
        for needed, how in service.get("depends_on", {}).items():
            ends = needed == "secrets"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
        if service["restart"] == "unless-stopped":
            assert {"mem_limit", "pids_limit"} <= service.keys(), name


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


def test_the_image_is_small(images: None) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", "sightword:cpu"))
    base = int(docker("image", "inspect", "--format", "{{.Size}}", "python:3.11-slim-bookworm"))
    assert size - base <= 300e6
