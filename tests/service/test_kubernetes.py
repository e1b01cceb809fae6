"""The manifests are what Kubernetes takes, and say the same as the image and the compose file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
# Kinds that are no part of Kubernetes itself: the tool has no schema for them.
FOREIGN = ("ServiceMonitor", "Kustomization")


def validated(file: Path) -> None:
    command = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", "--quiet", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if not any(f"kind {kind} " in line for kind in FOREIGN)]
    assert not complaints, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", sorted((KUBERNETES / "base").glob("*.yaml")), ids=lambda file: file.stem)
def test_each_manifest_is_strictly_valid(file: Path) -> None:
    validated(file)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_each_overlay_builds_and_is_strictly_valid(overlay: str, tmp_path: Path) -> None:
    if shutil.which("kustomize") is None:
        pytest.skip("kustomize is not installed")
    built = tmp_path / "built.yaml"
    command = ["kustomize", "build", str(KUBERNETES / "overlays" / overlay)]
    built.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout, "utf-8")
    validated(built)
    documents = list(yaml.safe_load_all(built.read_text("utf-8")))
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"sightword:{overlay}"
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (overlay == "gpu")
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def load(name: str) -> Any:
    return yaml.safe_load((KUBERNETES / "base" / name).read_text("utf-8"))


def test_selectors_find_the_pods() -> None:
    pod = load("deployment.yaml")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert load("deployment.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert load("service.yaml")["spec"]["selector"] == labels
    assert load("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert load("network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert load("monitor.yaml")["spec"]["selector"]["matchLabels"] == load("service.yaml")["metadata"]["labels"]


def test_pods_are_given_the_time_to_drain() -> None:
    pod = load("deployment.yaml")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert pod["terminationGracePeriodSeconds"] >= float(environment["SIGHTWORD_DRAIN_S"]) + 5 + 5  # preStop, and spare


def test_the_autoscaler_asks_for_a_metric_that_there_is() -> None:
    metrics = (ROOT / "service" / "metrics.py").read_text("utf-8")
    [metric] = load("autoscaler.yaml")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert f'"{name}"' in metrics
    assert name in (KUBERNETES / "prometheus-adapter.yaml").read_text("utf-8")
