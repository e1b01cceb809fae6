"""The training image: trains the sample into the shared volume, and publishes into the service that runs beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.containers.project import Project, build, docker, wait_for
from tests.containers.wheels import served, torch_wheels

RUN = ("--profile", "training", "run", "--rm", "training")


@pytest.fixture(scope="module")
def trained(images: None) -> Iterator[Project]:
    """A service that was there first, and after it a short run in the volume of both, which `served` links to."""
    wheels = torch_wheels()
    if wheels is None:
        pytest.skip("PIP_FIND_LINKS names no local folder with a torch without CUDA; with CUDA it is several GB")
    with served(wheels) as options:
        build("training", *options)
    project = Project(f"sightword-test-{os.getpid()}-training", {"SIGHTWORD_ADMIN_KEY": "an-admin-key-of-the-tests"})
    try:
        project.compose("up", "--detach", "--wait", "sightword")
        project.compose(*RUN, "train", *short(2))
        project.compose(*RUN[:-1], "--entrypoint", "ln", "training", "-s", "sample/bundle", "/runs/served")
        project.environment["SIGHTWORD_MODEL"] = "/runs/served"
        project.compose("up", "--detach", "--wait", "sightword")
        yield project
    finally:
        project.down()
    assert not project.left()


def test_a_run_is_published_into_the_service_that_runs(trained: Project) -> None:
    url = trained.url("SIGHTWORD_PORT")
    wait_for("ready", lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    [before] = httpx.get(f"{url}/info").json()["models"]
    assert before["id"] == "sample"
    bundled = "/opt/sightword/lib/python3.11/site-packages/model/bundled/sightword-small"
    start = ("--set", "model=null", "--set", f"start={bundled}")  # surely better than two steps from nothing
    trained.compose(*RUN, "train", "--output", "/runs/second", *start, *short(2), "--publish", "http://sightword:8000")
    [after] = httpx.get(f"{url}/info").json()["models"]
    assert after["id"] == "sample"
    assert after["digest"] != before["digest"]
    runs = docker("exec", trained.container("sightword"), "ls", "/runs").split()
    assert {"sample", "second", "served", "served.previous"} <= set(runs)


def test_only_the_training_writes_into_the_volume(trained: Project) -> None:
    """Also where the service, which reads only, was the first to mount it."""
    owner = docker("exec", trained.container("sightword"), "stat", "--format", "%u:%g", "/runs")
    assert owner.strip() == "10001:10001"
    tried = subprocess.run(
        ["docker", "exec", trained.container("sightword"), "touch", "/runs/x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Read-only file system" in tried.stderr


def short(steps: int) -> tuple[str, ...]:
    changes = (f"steps={steps}", "batch_size=16", "optimizer.warmup_steps=1")
    return tuple(part for change in changes for part in ("--set", change))
