"""A compose project on a real engine, under a name, ports and volumes of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def missing_engine() -> str | None:
    """Why there is no Docker engine to test on, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        return f"no docker compose: {asked.stderr.strip()}"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return None if asked.returncode == 0 else f"no Docker engine answers: {asked.stderr.strip()}"


def docker(*arguments: str, **options: Any) -> str:
    """Run it and return what it printed. Raises with its error output."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, **options)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def build(target: str, *options: str) -> None:
    """Build that target of the Dockerfile as sightword:TARGET; what has not changed since is not built again."""
    docker("build", "--target", target, "--tag", f"sightword:{target}", *options, ".")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: str, true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Ask until it is true; an exception of the connection counts as not yet."""
    ends = time.monotonic() + patience_s
    while True:
        try:
            if true():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < ends, f"not within {patience_s:g} s: {what}"
        time.sleep(0.25)


class Project:
    """The compose file of the repository, with `settings` as its variables and `overrides` as further files."""

    def __init__(self, name: str, settings: dict[str, str], overrides: tuple[Path, ...] = ()) -> None:
        self.name = name
        names = ("SIGHTWORD_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "BALANCER_PORT", "BALANCER_TLS_PORT")
        self.ports = {each: free_port() for each in names}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SIGHTWORD_")}
        self.environment = inherited | {key: str(port) for key, port in self.ports.items()} | settings
        files = (ROOT / "docker-compose.yml", *overrides)
        self.options = ["--project-name", name, *(part for file in files for part in ("--file", str(file)))]

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` on it."""
        return docker("compose", *self.options, *arguments, env=self.environment)

    def container(self, service: str, index: int = 0) -> str:
        """The id of a container of that service, running or not."""
        return self.compose("ps", "--all", "--quiet", service).split()[index]

    def url(self, port: str) -> str:
        """Where that port is published."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def inspect(self, service: str, template: str) -> str:
        """What `docker inspect --format` says of its container."""
        return docker("inspect", "--format", template, self.container(service)).strip()

    def down(self) -> None:
        """End it and everything that it made."""
        everything = ("gpu", "replicas", "pull", "training")
        profiles = [part for profile in everything for part in ("--profile", profile)]
        self.compose(*profiles, "down", "--volumes", "--remove-orphans", "--timeout", "45")

    def left(self) -> str:
        """What is still there of it: containers, volumes, networks."""
        mine = f"label=com.docker.compose.project={self.name}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return "".join(docker(*kind, "--quiet", "--filter", mine) for kind in kinds)
