"""A real HAProxy, configured as docs/operating.md says or as docker-compose.yml brings it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, free_port

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "compose" / "haproxy.cfg"
DOCUMENTED = ROOT / "docs" / "operating.md"
DEFAULTS = """
defaults
    mode http
    timeout connect 60s
    timeout client 300s
    timeout server 300s
"""
FRONTEND = """
frontend public
    bind 127.0.0.1:{port}
    http-request return status 404 content-type text/plain string "another application" unless {ours}
"""
RULE = "    use_backend {name} if {{ path {prefix} }} || {{ path_beg {prefix}/ }}\n"
BACKEND = "\nbackend {name}\n{rules}\n    server only {upstream}\n"


@contextmanager
def stripping(folder: Path, services: Mapping[str, Running]) -> Iterator[str]:
    """Address of a proxy that takes off a prefix for each service; what is under none belongs to another program."""
    port = free_port()
    [rules] = re.findall(r"^```haproxy\n(.+?)^```", DOCUMENTED.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ours = " || ".join(f"{{ path {prefix} }} || {{ path_beg {prefix}/ }}" for prefix in services)
    written = DEFAULTS + FRONTEND.format(port=port, ours=ours)
    written += "".join(RULE.format(name=f"s{number}", prefix=prefix) for number, prefix in enumerate(services))
    for number, (prefix, service) in enumerate(services.items()):
        upstream = httpx.URL(service.url).netloc.decode()
        written += BACKEND.format(name=f"s{number}", rules=rules.replace("/clip", prefix), upstream=upstream)
    with _proxying(folder, written, port, {}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def balancing(folder: Path, service: Running, **environment: str) -> Iterator[str]:
    """Address of the balancer of docker-compose.yml, in front of one service instead of what Docker's names lead to."""
    port = free_port()
    replacements = {
        r"bind :8000$": f"bind 127.0.0.1:{port}",
        r"bind :8404$": f"bind 127.0.0.1:{free_port()}",
        r"server-template .*$": f"server only {httpx.URL(service.url).netloc.decode()}",
        r" resolvers docker .*$": "",
    }
    written = SHIPPED.read_text("utf-8")
    for old, new in replacements.items():
        written, count = re.subn(old, new, written, flags=re.MULTILINE)
        assert count == 1, old
    with _proxying(folder, written, port, environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _proxying(folder: Path, configuration: str, port: int, environment: Mapping[str, str]) -> Iterator[None]:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    file.write_text(configuration, "utf-8")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(file)], env={**os.environ, **environment}, stdout=stream, stderr=stream
        )
    try:
        ends = time.monotonic() + PATIENCE_S
        while not _answers(port):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < ends, log.read_text("utf-8")
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return (
            httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE_S).status_code < 500
        )  # 503: it has not asked the service yet
    except httpx.TransportError:
        return False
