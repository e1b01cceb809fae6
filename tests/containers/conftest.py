"""The engine, the images, and one project that the tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.project import ROOT, Project, build, docker, missing_engine, wait_for

HAPROXY = "haproxy:3.2-bookworm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs an engine, and takes minutes: `make test-containers` runs it, `make test` does not."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def engine() -> None:
    if (missing := missing_engine()) is not None:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def images(engine: None) -> None:
    """Those of the project, and Debian's HAProxy in place of the official image where nothing can be pulled."""
    build("cpu")
    if subprocess.run(["docker", "image", "inspect", HAPROXY], capture_output=True, check=False).returncode == 0:
        return
    if subprocess.run(["docker", "pull", "--quiet", HAPROXY], capture_output=True, check=False).returncode == 0:
        return
    docker("build", "--tag", HAPROXY, "--file", "tests/containers/haproxy.Dockerfile", "tests/containers")


@pytest.fixture(scope="session")
def project(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Service, Redis and Prometheus, up and healthy; at the end nothing of it may be left."""
    override = impatient(tmp_path_factory.mktemp("prometheus"))
    project = Project(
        f"sightword-test-{os.getpid()}", {"SIGHTWORD_ADMIN_KEY": "an-admin-key-of-the-tests"}, (override,)
    )
    try:
        project.compose("up", "--detach", "--wait", "sightword", "prometheus")
        yield project
    finally:
        project.down()
    assert not project.left()


def impatient(folder: Path) -> Path:
    """An override by which Prometheus scrapes each second and its alerts wait a tenth as long as they do in earnest."""
    for file in (ROOT / "deploy" / "prometheus").glob("*.yml"):
        text = file.read_text("utf-8").replace("scrape_interval: 10s", "scrape_interval: 1s\n  evaluation_interval: 1s")
        text = text.replace("scrape_timeout: 5s", "scrape_timeout: 1s").replace("interval: 10s", "interval: 1s")
        for minutes in (1, 2, 3, 5, 10, 15):
            text = text.replace(f"for: {minutes}m", f"for: {6 * minutes}s")
        (folder / file.name).write_text(text, "utf-8")
    for each in (folder, *folder.iterdir()):
        each.chmod(0o755)
    override = folder / "override.yaml"
    override.write_text(f"services: {{prometheus: {{volumes: ['{folder}:/etc/prometheus:ro']}}}}\n", "utf-8")
    return override


@pytest.fixture
def service(project: Project) -> Iterator[httpx.Client]:
    """A client of the one service, which is ready again after whatever the test before did to it."""
    url = project.url("SIGHTWORD_PORT")
    wait_for("the service is ready", lambda: httpx.get(f"{url}/health/ready").status_code == 200)
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
