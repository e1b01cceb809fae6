"""Uvicorn, with a way out: ready turns 503, accepted work is finished, the exit code is 0."""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.app import create_app
from service.errors import ApiError, error_response
from service.state import Service

log = logging.getLogger(__name__)
QUIET_S = 1.0  # a drain ends early when there has been nothing to do for so long
TICK_S = 0.05
KEEP_ALIVE_S = 75  # longer than the idle time of the usual balancers, so that they close first


class Protocol(HttpToolsProtocol):
    """What is not HTTP at all never reaches the application; its refusal has the one shape all the same."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, and close the connection."""
        body = error_response(ApiError("invalid_request", "This is not a valid HTTP request.")).body
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"x-request-id: {uuid.uuid4().hex}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + bytes(body))
        self.transport.close()


class Server(uvicorn.Server):
    """Drains on SIGTERM and SIGINT; a second signal ends the drain at once."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                create_app(service),
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=Protocol,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.service = service

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise the signal again afterwards: a finished drain is a success."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self.service.draining:
            self.should_exit = self.force_exit = True
            return
        self.service.draining = True
        log.info("draining for at most %g s; a second signal ends it at once", self.service.settings.drain_s)
        self._drain = asyncio.get_running_loop().create_task(self._drain_then_exit())

    async def _drain_then_exit(self) -> None:
        """Keep listening until it is quiet, or for half of the drain time; the rest is for what was accepted."""
        loop = asyncio.get_running_loop()
        drain_s = self.service.settings.drain_s
        ends = loop.time() + drain_s
        quiet_since = loop.time()
        while loop.time() < ends - drain_s / 2 and loop.time() - quiet_since < min(QUIET_S, drain_s / 2):
            await asyncio.sleep(TICK_S)
            if self.service.pipeline.admission.items:
                quiet_since = loop.time()
        self.config.timeout_graceful_shutdown = max(1, round(ends - loop.time()))
        self.should_exit = True
