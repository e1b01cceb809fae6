"""Uvicorn, with a way in: it answers, not ready, while models load; and a way out: accepted work is finished first."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import uvicorn

from model.bundle import BundleError
from model.runtime.engine import EngineError
from service.app import create_app
from service.errors import ApiError
from service.http.early_rejection import Door
from service.http.listener import Listener
from service.http.protocol import Protocol
from service.memory import freeze_garbage_collector
from service.state import Service
from service.supervisor import Supervisor
from service.threads import run_in_daemon_thread, still_running

log = logging.getLogger(__name__)
QUIET_S = 1.0  # a drain ends early when there has been nothing to do for so long
TICK_S = 0.05
GIVE_UP_S = 5
EXIT_S = 10.0  # after all that may take its time: for what hangs
KEEP_ALIVE_S = 75  # longer than the idle time of the usual balancers, so that they close first


class Server(uvicorn.Server):
    """Drains on SIGTERM and SIGINT, and a second signal ends the drain at once; SIGHUP reloads."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        app = create_app(service)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=Protocol,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here depends on who a proxy says the client is
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.service = service
        self._app = app
        self.failed = False
        self.loading: Sequence[str] = ()  # names of the models that are to be served
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the socket; what is not loaded yet is told to whoever asks."""
        await self.service.check_stores()
        await super().startup(sockets)
        if self.started:
            freeze_garbage_collector()
            # All that uvicorn asks of a server.
            self.servers = [Listener(server, self._connection) for server in self.servers]  # type: ignore[misc]
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            log.info("running on http://%s, loading %s (Ctrl-C ends it)", address, ", ".join(self.loading))
            self._run(self._load())

    def _connection(self) -> asyncio.Protocol:
        return Door(self.config, self.server_state, self.lifespan.state, full=self._app.full, refuse=self._app.refuse)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End connections, then threads."""
        await super().shutdown(sockets)
        for task in self._tasks:
            task.cancel()
        await self.service.aclose()
        self._end_within(
            EXIT_S, int(self.failed)
        )  # asyncio and the interpreter wait for threads however long they take

    async def _load(self) -> None:
        try:
            await run_in_daemon_thread(self.service.models.load)
        except (BundleError, EngineError) as error:
            self.give_up(f"cannot start: {error}")
        except Exception:
            log.exception("loading failed")
            self.give_up("cannot start")
        else:
            log.info("ready after %.1f s", self.service.uptime_s())
            await Supervisor(self.service.models, self.service.metrics, self.give_up).watch()

    def give_up(self, reason: str) -> None:
        """End with an exit code other than 0, so that an orchestrator starts the process again."""
        if self.failed:
            return
        log.critical("%s", reason)
        self.failed = self.should_exit = True
        self.service.draining = True
        self.config.timeout_graceful_shutdown = GIVE_UP_S
        self._end_within(2 * GIVE_UP_S, 1)

    def _end_within(self, seconds: float, status: int) -> None:
        """A thread that never comes back must not keep the process, nor a loop that waits for it."""
        last_resort = threading.Timer(seconds, end_now, (status,))
        last_resort.daemon = True
        last_resort.start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, does not raise the signal again afterwards: a finished drain is a success."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.service.draining:
            self.should_exit = self.force_exit = True
            self._end_within(EXIT_S, 1)
            return
        self.service.draining = True
        log.info("draining for at most %g s; a second signal ends it at once", self.service.settings.drain_s)
        self._end_within(self.service.settings.drain_s + EXIT_S, 1)
        self._run(self._drain_then_exit())

    def _reload(self) -> None:
        self._run(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        try:
            changes = await self.service.reload()
        except (ApiError, BundleError, EngineError) as error:
            log.error("nothing was reloaded, what was served still is: %s", error)
        except Exception:
            log.exception("nothing was reloaded, what was served still is")
        else:
            log.info("reloaded: %s", ", ".join(change.describe() for change in changes))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain_then_exit(self) -> None:
        """Keep listening until it is quiet, or for half of the drain time; the rest is for what was accepted."""
        loop = asyncio.get_running_loop()
        drain_s = self.service.settings.drain_s
        ends = loop.time() + drain_s
        quiet_since = loop.time()
        while loop.time() < ends - drain_s / 2 and loop.time() - quiet_since < min(QUIET_S, drain_s / 2):
            await asyncio.sleep(TICK_S)
            if self.service.shared.admission.requests:
                quiet_since = loop.time()
        self.config.timeout_graceful_shutdown = max(1, round(ends - loop.time()))
        self.should_exit = True


def end_now(status: int) -> NoReturn:
    """End the process whatever still runs in it, once the log is written, if it can be."""

    def last_words() -> None:
        if running := still_running():
            log.warning("ending, though this still runs: %s", ", ".join(running))
        logging.shutdown()

    words = threading.Thread(target=last_words, daemon=True)  # nobody may read the log
    words.start()
    words.join(1.0)
    os._exit(status)
