"""What listens inside each container, and what of it can be reached from where."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.containers.project import Project, docker

LISTENS = "0A"  # in /proc/net/tcp
NAMES_OF_DOCKER = "0B00007F"  # 127.0.0.11: the engine's own name server in every container


def listening(project: Project, service: str) -> set[int]:
    table = docker("exec", project.container(service), "cat", "/proc/net/tcp", "/proc/net/tcp6")
    rows = [line.split() for line in table.splitlines() if ":" in line.split()[0]]
    sockets = [row[1].split(":") for row in rows if row[3] == LISTENS]
    return {int(port, 16) for address, port in sockets if address != NAMES_OF_DOCKER}


@pytest.mark.parametrize(("name", "port"), [("sightword", 8000), ("redis", 6379), ("prometheus", 9090)])
def test_one_port_listens_inside(project: Project, service: httpx.Client, name: str, port: int) -> None:
    assert listening(project, name) == {port}


def test_all_that_is_published_is_published_on_this_machine_only(project: Project) -> None:
    published = {}
    for container in project.compose("ps", "--quiet").split():
        [shown] = json.loads(docker("inspect", container))
        name = shown["Config"]["Labels"]["com.docker.compose.service"]
        bound = [each for bindings in shown["NetworkSettings"]["Ports"].values() for each in bindings or ()]
        assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}, name
        published[name] = {int(each["HostPort"]) for each in bound}
    assert published == {
        "sightword": {project.ports["SIGHTWORD_PORT"]},
        "prometheus": {project.ports["PROMETHEUS_PORT"]},
        "redis": set(),
    }


def test_redis_has_no_way_out(project: Project) -> None:
    for network, internal in (("inside", "true"), ("outside", "false")):
        shown = docker("network", "inspect", "--format", "{{.Internal}}", f"{project.name}_{network}")
        assert shown.strip() == internal
    networks = json.loads(project.inspect("redis", "{{json .NetworkSettings.Networks}}"))
    assert list(networks) == [f"{project.name}_inside"]
