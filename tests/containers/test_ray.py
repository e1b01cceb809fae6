"""The image for Ray: a head and workers as KubeRay would start them from the manifest, and the service on them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.bundle import bundled_digest
from tests.containers.kuberay import DASHBOARD_PORT, HEAD, WORKERS, Pod, Pods
from tests.containers.project import ROOT, build, docker, wait_for

KEY = "a-key-of-the-tests-of-the-containers"
PORT = 8000


@pytest.fixture
def pods(engine: None, tmp_path: Path) -> Iterator[Pods]:
    """None yet; with a secret `sightword`, and the account of a pod that may ask Kubernetes."""
    build("ray")
    secret, account = tmp_path / "secret", tmp_path / "account"
    for file, content in ((secret / "sightword_api_keys", KEY), (account / "token", "a token of Kubernetes")):
        file.parent.mkdir()
        file.write_text(content, "utf-8")
    for each in (tmp_path, *tmp_path.rglob("*")):
        each.chmod(0o755)  # the containers are somebody else than us
    pods = Pods(f"sightword-test-{os.getpid()}-ray", secret, account)
    try:
        yield pods
    finally:
        pods.close()


def test_a_cluster_of_the_manifest_serves(pods: Pods) -> None:
    head = pods.start(HEAD, "sightword:ray")
    wait_for("the head is ready", lambda: head.passes("readinessProbe"))
    workers = [pods.start(WORKERS, "sightword:ray") for _ in range(WORKERS["minReplicas"])]
    for pod in (head, *workers):
        wait_for("it is alive", lambda pod=pod: pod.passes("livenessProbe"))
    config = (ROOT / "deploy" / "ray" / "serve.yaml").read_text("utf-8")
    deploy = "cat >/tmp/serve.yaml && serve deploy /tmp/serve.yaml"
    docker("exec", "--interactive", head.container, "sh", "-c", deploy, input=config)
    wait_for("all replicas run", lambda: replicas(head, pods.token) == len(workers))
    for pod in workers:
        wait_for("the balancer may send requests there", lambda pod=pod: pod.passes("readinessProbe"))
    for pod in (head, *workers):
        url, body = f"http://{pod.address}:{PORT}/embed", {"inputs": ["a cat"]}
        assert httpx.post(url, json=body, timeout=30).status_code == 401, "the keys of the secret are wanted"
        answer = httpx.post(url, json=body, headers={"x-api-key": KEY}, timeout=30)
        assert (answer.status_code, answer.headers["x-model-digest"]) == (200, bundled_digest()), answer.text
    for pod in (head, *workers):
        may_write_nothing(pod)


def replicas(head: Pod, token: str) -> int:
    """How many of the service run, by what the operator asks; nobody else is told."""
    url = f"http://{head.address}:{DASHBOARD_PORT}/api/serve/applications/"
    assert httpx.get(url).status_code == 401
    answer = httpx.get(url, headers={"authorization": f"Bearer {token}"}, timeout=30).json()
    application = answer["applications"].get("sightword", {})
    assert application.get("status") not in ("DEPLOY_FAILED", "UNHEALTHY"), json.dumps(application, indent=1)
    found = application.get("deployments", {}).get("sightword", {}).get("replicas", [])
    return sum(each["state"] == "RUNNING" for each in found)


def may_write_nothing(pod: Pod) -> None:
    """Nobody's, without capabilities, and nothing but /tmp can be written."""
    tried = docker("exec", pod.container, "sh", "-c", "touch /opt/sightword/x /x /models/x 2>&1; cat /proc/1/status")
    assert tried.count("Read-only file system") == 3
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in tried
    assert "\nCapBnd:\t0000000000000000\n" in tried
