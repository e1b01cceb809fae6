"""What is in deploy/ray fits together, and what Kubernetes knows of it is valid. tests/ray runs what Ray reads, and
tests/containers/test_ray.py the pods.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.environment import PREFIX, VARIABLES
from service.settings import Settings
from tests.service.test_kubernetes import validated

ROOT = Path(__file__).parents[2]
RAY = ROOT / "deploy" / "ray"
MANIFEST, POLICY = yaml.safe_load_all((RAY / "rayservice.yaml").read_text("utf-8"))
CLUSTER = MANIFEST["spec"]["rayClusterConfig"]
CONFIG = yaml.safe_load((RAY / "serve.yaml").read_text("utf-8"))
[WORKERS] = CLUSTER["workerGroupSpecs"]
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def deployment_of(config: dict[str, Any]) -> dict[str, Any]:
    [application] = config["applications"]
    [deployment] = application["deployments"]
    return dict(deployment)


def test_the_manifest_deploys_what_the_file_does() -> None:
    assert yaml.safe_load(MANIFEST["spec"]["serveConfigV2"]) == CONFIG


@pytest.mark.parametrize("group", [CLUSTER["headGroupSpec"], WORKERS], ids=["head", "worker"])
def test_the_pods_are_strictly_valid(group: dict[str, Any], tmp_path: Path) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod), "utf-8")
    validated(tmp_path / "pod.yaml")
    [container] = pod["spec"]["containers"]  # type: ignore[index]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]  # type: ignore[index]
    assert container["securityContext"] == CLUSTER["autoscalerOptions"]["securityContext"] == RESTRICTED
    assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    target = container["image"].removeprefix("sightword:")
    assert re.search(rf"^FROM \S+ AS {target}$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_a_pod_has_a_token_of_kubernetes_or_our_secrets() -> None:
    """Both are in /run/secrets, and where one is mounted read-only there, the folder for the other cannot be made."""
    for group in (CLUSTER["headGroupSpec"], WORKERS):
        spec = group["template"]["spec"]
        mounted = {each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
        assert ("/run/secrets" in mounted) != spec["automountServiceAccountToken"]


def test_what_runs_is_pinned_once() -> None:
    assert f"ray=={CLUSTER['rayVersion']}\n" in (ROOT / "constraints.txt").read_text("utf-8")


def test_times_and_queues_fit_the_service() -> None:
    deployment, settings = deployment_of(CONFIG), Settings()
    assert deployment["graceful_shutdown_timeout_s"] > settings.timeout_s
    assert CONFIG["http_options"]["request_timeout_s"] > settings.timeout_s
    assert deployment["max_queued_requests"] == settings.queue_items
    assert deployment["autoscaling_config"]["target_ongoing_requests"] < deployment["max_ongoing_requests"]
    assert deployment["max_ongoing_requests"] < settings.queue_items, "Ray Serve holds back before a replica refuses"
    ends_s = WORKERS["template"]["spec"]["terminationGracePeriodSeconds"]
    assert ends_s > deployment["graceful_shutdown_timeout_s"] + deployment["graceful_shutdown_wait_loop_s"]


def test_a_worker_has_the_cores_of_a_replica() -> None:
    [container] = WORKERS["template"]["spec"]["containers"]
    assert int(container["resources"]["limits"]["cpu"]) >= deployment_of(CONFIG)["ray_actor_options"]["num_cpus"]
    most = deployment_of(CONFIG)["autoscaling_config"]["max_replicas"]
    assert WORKERS["maxReplicas"] > most, "a new version starts a replica before it ends one"


def test_nobody_outside_can_run_anything_in_the_cluster(tmp_path: Path) -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY), "utf-8")
    validated(tmp_path / "policy.yaml")
    open_to_all = [rule for rule in POLICY["spec"]["ingress"] if rule["from"] == [{"namespaceSelector": {}}]]
    assert [rule["ports"] for rule in open_to_all] == [[{"port": CONFIG["http_options"]["port"]}]]


@pytest.mark.parametrize("file", sorted(RAY.iterdir()), ids=lambda file: file.name)
def test_the_settings_named_there_exist(file: Path) -> None:
    named = set(re.findall(rf"^[^#\n]*\b({PREFIX}\w+)", file.read_text("utf-8"), re.MULTILINE))
    assert named <= set(VARIABLES)
