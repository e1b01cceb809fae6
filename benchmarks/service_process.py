"""The real service as a process of its own, driven over a socket."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_S = 120.0
PATIENCE_S = 60.0  # timeout of a request: the machine may be busy with other things
_LISTENING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


@dataclass
class Running:
    """A service that was started, where it listens, and the file that its log goes to."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        """All that it has logged so far."""
        return self.log_file.read_text("utf-8")

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` that carry these labels."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{k}="{v}"' in sample for k, v in labels.items()):
                total += float(value)
        return total

    def stop(self, number: int = signal.SIGTERM, wait_s: float = 40.0) -> int:
        """Send the signal and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(wait_s)


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process, with these settings of the service and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTWORD_")}
    return inherited | {f"SIGHTWORD_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def starting(
    folder: Path,
    model: Path,
    *flags: str,
    module: str = "service",
    python: str = sys.executable,
    before: Callable[[], None] | None = None,
    **settings: str,
) -> Iterator[Running]:
    """`python -m service` on a free port, listening but perhaps not ready; terminated on the way out.

    `python` has the service installed. `before` runs in the new process.
    """
    log_file = folder / f"service-{time.monotonic_ns()}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [python, "-m", *module.split(), "--port", "0", *flags],
            env=clean_environment({"model": str(model), "label_sets": str(folder / "label-sets"), **settings}),
            stderr=log,
            preexec_fn=before,
        )
    try:
        yield Running(_wait_for_url(process, log_file), process, log_file)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_url(process: subprocess.Popen[bytes], log_file: Path) -> str:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if found := _LISTENING.search(log_file.read_text("utf-8")):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the service did not start:\n{log_file.read_text('utf-8')}")


@contextmanager
def running(folder: Path, model: Path, *flags: str, module: str = "service", **options: Any) -> Iterator[Running]:
    """The same as `starting`, once `/health/ready` answers 200."""
    with starting(folder, model, *flags, module=module, **options) as service:
        wait_until_ready(service)
        yield service


def wait_until_ready(service: Running) -> None:
    """Poll `/health/ready`; fails with the log where the process ends, or START_S pass."""
    ends = time.monotonic() + START_S
    while not _is_ready(service):
        assert service.process.poll() is None, f"the service did not start:\n{service.log()}"
        assert time.monotonic() < ends, f"the service is not ready:\n{service.log()}"
        time.sleep(0.02)


def _is_ready(service: Running) -> bool:
    try:
        return httpx.get(f"{service.url}/health/ready", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:  # it has ended, and its log says why
        return False


def free_port() -> int:
    """A TCP port that nobody listens on, below the ephemeral range: no outgoing connection takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
