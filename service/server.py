"""The server: it answers, not ready, while models load, and finishes accepted work before it ends."""

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

from model.manifest import BundleError
from model.runtime.engine import EngineError
from service.app import create_app
from service.errors import ApiError
from service.http.connection_limits import ConnectionLimits
from service.http.early_rejection import EarlyRejectionProtocol
from service.http.listener import Listener
from service.memory import freeze_garbage_collector
from service.state import Service
from service.supervisor import Supervisor
from service.threads import run_in_daemon_thread, still_running

log = logging.getLogger(__name__)
QUIET_S = 1.0  # a drain ends early when there has been nothing to do for so long
POLL_S = 0.05
FAILURE_SHUTDOWN_S = 5  # for what was accepted, when the process ends because it failed
FORCED_EXIT_S = 10.0  # after all that may take its time: for what hangs
KEEP_ALIVE_S = 75  # longer than the idle time of the usual balancers, so that they close first


class Server(uvicorn.Server):
    """Drains on SIGTERM and SIGINT, and a second signal ends the drain at once; SIGHUP reloads.

    Of uvicorn's server it keeps the main loop and the graceful shutdown; connections are accepted by `Listener`.
    """

    def __init__(self, service: Service, limits: ConnectionLimits | None = None) -> None:
        """`limits` are those of the process where none are passed."""
        settings = service.settings
        app = create_app(service)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=EarlyRejectionProtocol,
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
        self._limits = limits or ConnectionLimits.of_this_process()
        self.failed = False
        self.loading: Sequence[str] = ()  # names of the models that are to be served
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on `sockets`, which listen already, and begin to load the models."""
        assert sockets is not None
        await self.service.check_stores()
        listener = Listener(sockets, self._make_protocol, self._limits.accepts_per_turn)
        self.servers = [listener]  # type: ignore[list-item]  # all that uvicorn asks of an asyncio.Server
        self.started = True
        freeze_garbage_collector()
        host, port = sockets[0].getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        log.info("running on http://%s, loading %s (Ctrl-C ends it)", address, ", ".join(self.loading))
        self._spawn(self._load())

    def _make_protocol(self) -> asyncio.Protocol:
        return EarlyRejectionProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            limits=self._limits,
            is_full=self._app.full,
            reject=self._app.refuse,
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End connections, then threads."""
        await super().shutdown(sockets)
        for task in self._tasks:
            task.cancel()
        await self.service.aclose()
        # asyncio and the interpreter wait for threads, however long they take
        self._force_exit_after(FORCED_EXIT_S, int(self.failed))

    async def _load(self) -> None:
        try:
            await run_in_daemon_thread(self.service.models.load)
        except (BundleError, EngineError) as error:
            self.fail(f"cannot start: {error}")
        except Exception:
            log.exception("loading failed")
            self.fail("cannot start")
        else:
            log.info("ready after %.1f s", self.service.uptime_s())
            await Supervisor(self.service.models, self.service.metrics, self.fail).watch()

    def fail(self, reason: str) -> None:
        """End with an exit code other than 0, so that an orchestrator starts the process again."""
        if self.failed:
            return
        log.critical("%s", reason)
        self.failed = self.should_exit = True
        self.service.draining = True
        self.config.timeout_graceful_shutdown = FAILURE_SHUTDOWN_S
        self._force_exit_after(2 * FAILURE_SHUTDOWN_S, 1)

    def _force_exit_after(self, seconds: float, status: int) -> None:
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
            self._force_exit_after(FORCED_EXIT_S, 1)
            return
        self.service.draining = True
        log.info("draining for at most %g s; a second signal ends it at once", self.service.settings.drain_s)
        self._force_exit_after(self.service.settings.drain_s + FORCED_EXIT_S, 1)
        self._spawn(self._drain_then_exit())

    def _reload(self) -> None:
        self._spawn(self._reload_and_log())

    async def _reload_and_log(self) -> None:
        try:
            changes = await self.service.reload()
        except (ApiError, BundleError, EngineError) as error:
            log.error("nothing was reloaded, what was served still is: %s", error)
        except Exception:
            log.exception("nothing was reloaded, what was served still is")
        else:
            log.info("reloaded: %s", ", ".join(change.describe() for change in changes))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
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
            await asyncio.sleep(POLL_S)
            if self.service.shared.admission.requests:
                quiet_since = loop.time()
        self.config.timeout_graceful_shutdown = max(1, round(ends - loop.time()))
        self.should_exit = True


def end_now(status: int) -> NoReturn:
    """End the process whatever still runs in it, once the log is written, if it can be."""

    def flush_log() -> None:
        if running := still_running():
            log.warning("ending, though this still runs: %s", ", ".join(running))
        logging.shutdown()

    flushing = threading.Thread(target=flush_log, daemon=True)  # nobody may read the log
    flushing.start()
    flushing.join(1.0)
    os._exit(status)
