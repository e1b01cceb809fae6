"""A fetcher in an internet whose names mean what a test says, and whose addresses all lead to its own server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry, Gauge

from service.admission import Admission
from service.errors import ApiError
from service.inference.fetch import Fetcher, FetchLimits
from service.settings import Settings
from tests.service.https_server import PATIENCE_S, HttpsServer

PUBLIC, PUBLIC_6, PRIVATE = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "127.0.0.1"
NAME = "pictures.test"
MAX_BYTES = 200_000
T = TypeVar("T")


class Internet:
    """Each name has the addresses given here, in one answer after the other."""

    def __init__(self, server: HttpsServer, *answers: list[str], limit_bytes: int = 2**30, **limits: float) -> None:
        self.port, self.ca_file = server.port, server.ca_file
        self.answers = list(answers) or [[PUBLIC]]
        self.limits = FetchLimits(connect_s=PATIENCE_S, **limits)  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.connected: list[str] = []
        self.dead: set[str] = set()
        gauges = [Gauge(name, name, registry=CollectorRegistry()) for name in ("items", "bytes")]
        self.admission = Admission(100, limit_bytes, *gauges)

    def url(self, path: str = "/", name: str = NAME) -> str:
        return f"https://{name}:{self.port}{path}"

    def run(self, work: Callable[[Fetcher], Awaitable[T]]) -> T:
        """Do the work with a fetcher that may fetch from NAME, and from loopback by its address."""

        async def main() -> T:
            loop: Any = asyncio.get_running_loop()
            self._connect = loop.create_connection
            loop.getaddrinfo, loop.create_connection = self._getaddrinfo, self._create_connection
            hosts = tuple(f"{host}:{self.port}" for host in (NAME, "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"))
            with mock.patch.dict(os.environ, SSL_CERT_FILE=self.ca_file):
                fetcher = Fetcher(Settings(url_hosts=hosts, max_body_bytes=MAX_BYTES), self.admission, self.limits)
            try:
                return await work(fetcher)
            finally:
                await fetcher.aclose()

        return asyncio.run(main())

    def get(self, path: str = "/", name: str = NAME) -> bytes:
        """Fetch a picture; what is held meanwhile is its bytes, or nothing if that fails."""

        async def work(fetcher: Fetcher) -> bytes:
            with self.admission.reserve_bytes() as held:
                try:
                    file = await fetcher.fetch(self.url(path, name), held)
                except ApiError:
                    assert held.size == self.admission.bytes == 0
                    raise
                assert held.size == self.admission.bytes == len(file)
                return file

        return self.run(work)

    def refusal(self, path: str = "/", name: str = NAME) -> ApiError:
        """Fail to fetch a picture, in words that tell nothing internal."""
        with pytest.raises(ApiError) as refused:
            self.get(path, name)
        error = refused.value
        assert error.param is None
        for internal in (PUBLIC, PRIVATE, NAME, str(self.port), "Error", "Timeout", "SSL", "Errno"):
            assert internal not in error.message
        return error

    async def _getaddrinfo(self, name: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        self.asked.append(name)
        await asyncio.sleep(0)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def _create_connection(self, factory: Any, host: str, port: int, **_: object) -> Any:
        self.connected.append(host)
        if host in self.dead:
            raise ConnectionRefusedError(host)
        return await self._connect(factory, "127.0.0.1", port)
