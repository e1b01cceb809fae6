"""A Ray cluster on this machine: a head that only directs, and nodes, each with its own raylet."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from ray.cluster_utils import Cluster

from benchmarks.service_process import free_port

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "ray" / "serve.yaml"
PATIENCE_S = 180.0
KEY = {"authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
STORE_BYTES = 80 * 2**20  # the least that Ray takes is a little under


class LocalCluster:
    """Two nodes beside the head. `url` is Ray Serve's proxy on the head, `api` what `serve deploy` talks to."""

    def __init__(self, folder: str) -> None:
        self.api = f"http://127.0.0.1:{free_port()}/api/serve/applications/"
        self.url = f"http://127.0.0.1:{free_port()}"
        dashboard = {
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": httpx.URL(self.api).port,
        }
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "temp_dir": folder, **dashboard}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self.nodes = [self._cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES) for _ in range(2)]
        self._before: set[str] = set()

    def close(self) -> None:
        """End all processes."""
        self._cluster.shutdown()

    def deploy(self, model: Path, settings: Mapping[str, str] | None = None, **options: Any) -> None:
        """What `serve deploy deploy/ray/serve.yaml` does, with another model and options of the deployment."""
        config = yaml.safe_load(CONFIG.read_text("utf-8"))
        config["proxy_location"] = "HeadOnly"  # all nodes are one machine here, which has a port only once
        config["http_options"] |= {"host": "127.0.0.1", "port": httpx.URL(self.url).port}
        [application] = config["applications"]
        variables = {"SIGHTWORD_MODEL": str(model), "SIGHTWORD_CACHE_BYTES": "0"}
        application["runtime_env"]["env_vars"] |= variables | dict(settings or {})
        [deployment] = application["deployments"]
        if "num_replicas" in options:
            del deployment["autoscaling_config"]
        deployment["ray_actor_options"]["num_cpus"] = 1
        deployment |= options
        self._before = {replica["replica_id"] for replica in self.replicas()}
        answer = httpx.put(self.api, json=config, headers=KEY, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text

    def application(self) -> dict[str, Any]:
        """What Ray Serve knows of it."""
        applications = httpx.get(self.api, headers=KEY, timeout=PATIENCE_S).json()["applications"]
        found: dict[str, Any] = applications.get("sightword", {})
        return found

    def replicas(self) -> list[dict[str, Any]]:
        """Those that take requests, also of the deployment before the last."""
        found = self.application().get("deployments", {}).get("sightword", {}).get("replicas", [])
        return [replica for replica in found if replica["state"] == "RUNNING"]

    def wait_until_running(self, replicas: int) -> None:
        """Until there are so many replicas of the last deployment, and no others."""

        def are_there() -> bool:
            names = {replica["replica_id"] for replica in self.replicas()}
            return len(names) == replicas and not names & self._before

        wait_until(are_there)

    def kill_one_node(self) -> str:
        """As a machine that loses its power: SIGKILL for its raylet and every process under it. Gives the node's id."""
        node = self.nodes.pop()
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in (raylet, *raylet.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        found: str = node.node_id
        return found


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """For the length of the `with`."""
    folder = tempfile.mkdtemp(prefix="ray")  # a short name: sockets are under it
    Path("/tmp/ray").mkdir(exist_ok=True)
    cluster = LocalCluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll; fails after PATIENCE_S."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.2)
