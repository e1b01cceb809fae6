"""Several replicas behind the balancer: replaced under load, and reached over TLS where a certificate is given."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.containers.load import Load
from tests.containers.project import ROOT, Project, wait_for


@pytest.fixture(scope="module")
def replicas(project: Project) -> Iterator[Project]:
    """The project with two replicas behind a balancer that answers."""
    project.compose("--profile", "replicas", "up", "--detach", "--wait", "balancer")
    ready = f"{project.url('BALANCER_PORT')}/health/ready"
    wait_for("the balancer has found them", lambda: httpx.get(ready).status_code == 200)
    yield project
    project.compose("--profile", "replicas", "rm", "--stop", "--force", "balancer", "replica")


def test_replicas_are_replaced_under_load_without_losing_a_request(replicas: Project) -> None:
    before = set(replicas.compose("ps", "--quiet", "replica").split())
    with Load("127.0.0.1", replicas.ports["BALANCER_PORT"], clients=8).running() as load:
        wait_for("load", lambda: load.outcomes["200"] > 100)
        roll = str(ROOT / "deploy" / "compose" / "roll.sh")
        done = subprocess.run(
            [roll, *replicas.options], env=replicas.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answered = load.outcomes["200"]
        wait_for("load after it", lambda: load.outcomes["200"] > answered + 100)
    assert not load.lost, (load.lost, replicas.compose("logs", "balancer"))
    assert load.outcomes["nobody listens"] == 0
    after = set(replicas.compose("ps", "--quiet", "replica").split())
    assert len(after) == len(before) == 2
    assert not before & after


def test_one_variable_switches_tls_on_beside_plain_http(replicas: Project, tmp_path: Path) -> None:
    encrypted = f"https://localhost:{replicas.ports['BALANCER_TLS_PORT']}/embed"
    with pytest.raises(httpx.TransportError):
        httpx.post(encrypted, json={"inputs": ["a text"]}, verify=False)  # off unless asked for
    authority = trustme.CA()
    certificate = tmp_path / "tls.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    certificate.chmod(0o644)  # the balancer is somebody else than us
    replicas.environment["TLS_FILE"] = str(certificate)
    replicas.compose("--profile", "replicas", "up", "--detach", "--wait", "--no-deps", "balancer")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with httpx.Client(verify=trusting, timeout=30) as client:

        def answers(url: str) -> bool:
            return client.post(url, json={"inputs": ["a text"]}).status_code == 200

        wait_for("https", lambda: answers(encrypted))
        wait_for("http", lambda: answers(f"{replicas.url('BALANCER_PORT')}/embed"))
