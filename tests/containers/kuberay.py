"""The pods of deploy/ray/rayservice.yaml, as containers on a Docker engine.

Beside what the manifest says they have what the operator (KubeRay's ray-operator/controllers/ray/common/pod.go) and
Kubernetes add to it.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.containers.project import ROOT, docker

MANIFEST, _ = yaml.safe_load_all((ROOT / "deploy" / "ray" / "rayservice.yaml").read_text("utf-8"))
CLUSTER = MANIFEST["spec"]["rayClusterConfig"]
HEAD = CLUSTER["headGroupSpec"]
[WORKERS] = CLUSTER["workerGroupSpecs"]
GCS_PORT, AGENT_PORT, DASHBOARD_PORT = 6379, 52365, 8265
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Pod:
    """A container of a group; `address` is where its ports are."""

    def __init__(self, container: str, group: dict[str, Any]) -> None:
        self.container = container
        [self._spec] = group["template"]["spec"]["containers"]
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self.address = docker("inspect", "--format", networks, container).strip()

    def passes(self, probe: str) -> bool:
        """What the kubelet would find now, by the probe of that name."""
        wanted = self._spec[probe]["httpGet"]
        ports = {each["name"]: each["containerPort"] for each in self._spec["ports"]}
        port = ports.get(wanted["port"], wanted["port"])
        url = f"http://{self.address}:{port}{wanted['path']}"
        return 200 <= httpx.get(url, timeout=self._spec[probe]["timeoutSeconds"]).status_code < 400


class Pods:
    """A cluster on a network of its own, whose pods come one by one. `secret_folder` is the secret `sightword`,
    `account_folder` what Kubernetes gives to a pod with a service account.
    """

    def __init__(self, name: str, secret_folder: Path, account_folder: Path) -> None:
        self._name, self._created = name, list[str]()
        self._folders = {"secrets": secret_folder, ACCOUNT: account_folder}
        self.token = secrets.token_hex(32)
        docker("network", "create", name)

    def start(self, group: dict[str, Any], image: str) -> Pod:
        """One more pod of that group."""
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert container["image"] == image
        given, limits = container["securityContext"], container["resources"]["limits"]
        options = ["--user", f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"]
        options += [f"--cap-drop={each}" for each in given["capabilities"]["drop"]]
        options += ["--read-only"] if given["readOnlyRootFilesystem"] else []
        options += [] if given["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]
        options += [f"--memory={_bytes(limits['memory'])}"]
        options += [f"--cpus={limits['cpu']}"] if "cpu" in limits else []
        options += ["--shm-size=1g", *self._mounts(pod, container["volumeMounts"])]
        for variable, value in self._environment(container, is_head=group is HEAD).items():
            options += ["--env", f"{variable}={value}"]
        if group is HEAD:
            options += ["--network-alias=head"]
        options += ["--entrypoint=/bin/bash", image, "-c", "--"]
        command = f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start_command(group)}"
        self._created.append(docker("create", f"--network={self._name}", *options, command).strip())
        docker("start", self._created[-1])
        return Pod(self._created[-1], group)

    def _mounts(self, pod: dict[str, Any], mounts: list[dict[str, Any]]) -> list[str]:
        volumes = {each["name"]: each for each in pod["volumes"]}
        empty = [each["mountPath"] for each in mounts if "emptyDir" in volumes[each["name"]]]
        folders = {self._folders[each["name"]]: each["mountPath"] for each in mounts if each["mountPath"] not in empty}
        if pod["automountServiceAccountToken"]:
            folders[self._folders[ACCOUNT]] = ACCOUNT
        if pod is HEAD["template"]["spec"] and CLUSTER["enableInTreeAutoscaling"]:
            empty.append("/tmp/ray")
        options = [f"--tmpfs={path}:exec,mode=0777" for path in empty]
        return options + [f"--volume={folder}:{path}:ro" for folder, path in folders.items()]

    def _environment(self, container: dict[str, Any], *, is_head: bool) -> dict[str, str]:
        assert CLUSTER["authOptions"] == {"mode": "token"}
        return {each["name"]: each["value"] for each in container["env"]} | {
            "RAY_ADDRESS": f"{'127.0.0.1' if is_head else 'head'}:{GCS_PORT}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_GCS_SERVER_REQUEST_TIMEOUT_SECONDS": "5",
            "RAY_PORT": str(GCS_PORT),
            "RAY_SERVE_KV_TIMEOUT_S": "5",
            "RAY_TIMEOUT_MS_TASK_WAIT_FOR_DEATH_INFO": "0",
            "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        }

    def close(self) -> None:
        """End all, and print the end of what each said."""
        for container in self._created:
            print(docker("logs", "--tail", "20", container))
            docker("rm", "--force", "--volumes", container)
        docker("network", "rm", self._name)


def start_command(group: dict[str, Any]) -> str:
    """The operator's `ray start` for a group: what the manifest says, else the operator, else the limits."""
    [container] = group["template"]["spec"]["containers"]
    resources = container["resources"]
    cores = resources["limits"].get("cpu", resources["requests"]["cpu"])
    given = {"num-cpus": cores, "memory": str(_bytes(resources["limits"]["memory"]))}
    given |= {"block": "true", "dashboard-agent-listen-port": str(AGENT_PORT), "metrics-export-port": "8080"}
    if group is HEAD:
        given |= {"dashboard-host": "0.0.0.0"}
        given |= {"no-monitor": "true"} if CLUSTER["enableInTreeAutoscaling"] else {}
    else:
        given |= {"address": f"head:{GCS_PORT}"}
    flags = (
        f"--{name}" if value == "true" else f"--{name}={value}"
        for name, value in (given | group["rayStartParams"]).items()
    )
    return " ".join(["ray start", *(["--head"] if group is HEAD else []), *flags])


def _bytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) * 2**30
