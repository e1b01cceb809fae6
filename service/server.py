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
from functools import partial
from typing import Any, NoReturn

import uvicorn

from model.manifest import BundleError
from model.runtime.engine import EngineError
from service.app import create_app
from service.board import Field, Phase
from service.errors import ApiError
from service.http.connection_limits import ConnectionLimits
from service.http.early_rejection import EarlyRejectionProtocol, Gate
from service.http.listener import Listener
from service.http.protocol import Idle
from service.member import Member
from service.memory import freeze_garbage_collector
from service.state import Service
from service.supervisor import Supervisor
from service.threads import still_running
from service.workers.channel import ChannelError

log = logging.getLogger(__name__)
QUIET_S = 1.0  # a drain ends early when there has been nothing to do for so long
POLL_S = 0.05
REPORT_S = 3 * 3600.0  # for the parent's answer: it may have all others reload first
FAILURE_SHUTDOWN_S = 5  # for what was accepted, when the process ends because it failed
FORCED_EXIT_S = 10.0  # after all that may take its time: for what hangs
KEEP_ALIVE_S = 75  # longer than the idle time of the usual balancers, so that they close first


class Server(uvicorn.Server):
    """Drains on SIGTERM and SIGINT, and a second signal ends the drain at once; SIGHUP reloads.

    Of uvicorn's server it keeps the main loop and the graceful shutdown; connections are accepted by `Listener`. One of
    several workers leaves reloads and the second signal to its parent.
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
        self._row = service.shared.admission.row
        self._app = app
        self._limits = limits or ConnectionLimits.of_this_process()
        workers = 1 if service.worker is None else service.worker.count
        service.max_connections = workers * self._limits.max_connections  # descriptors are of a process
        self._idle, self._gate = Idle(), Gate(app.free)
        self.failed = False
        self.loading: Sequence[str] = ()  # names of the models that are to be served
        self._tasks: set[asyncio.Task[object]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on `sockets`, which listen already, and begin to load the models."""
        assert sockets is not None
        await self.service.check_stores()
        listener = Listener(sockets, self._make_protocol, self._limits.accepts_per_turn, self._row)
        self.servers = [listener]  # type: ignore[list-item]  # all that uvicorn asks of an asyncio.Server
        self.started = True
        freeze_garbage_collector()
        host, port = sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if self.service.worker is None:
            log.info("running on %s, loading %s (Ctrl-C ends it)", url, ", ".join(self.loading))
        else:
            member = Member(self.service.metrics, self.service.keys, self.service.models)
            gone = partial(self.fail, "the parent process is gone")
            self._spawn(self.service.worker.serve(member.handlers(), gone))
            self._spawn(self._report("listening", {"url": url, "loading": ", ".join(self.loading)}))
        self._spawn(self._load())

    def _make_protocol(self) -> asyncio.Protocol:
        return EarlyRejectionProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            limits=self._limits,
            idle=self._idle,
            gate=self._gate,
            reject=self._app.refuse,
            on_lost=partial(self._row.add, Field.CONNECTIONS, -1),
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
            await self.service.load()
        except (BundleError, EngineError) as error:
            self.fail(f"cannot start: {error}")
        except Exception:
            log.exception("loading failed")
            self.fail("cannot start")
        else:
            log.info("ready after %.1f s", self.service.uptime_s())
            await self._report_ready()
            await Supervisor(self.service.models, self.service.metrics, self.fail).watch()

    async def _report_ready(self) -> None:
        """Where there are others, take connections only when the parent knows."""
        if await self._report("ready"):
            self._row.set(Field.READY, 1)

    async def _report(self, what: str, argument: dict[str, str] | None = None) -> bool:
        """Tell the parent, where there is one; without it, this process ends anyway."""
        try:
            if self.service.worker is not None:
                await self.service.worker.ask_parent(what, argument, REPORT_S)
        except ChannelError:
            return False
        except ApiError as error:
            self.fail(str(error))
            return False
        return True

    def fail(self, reason: str) -> None:
        """End with an exit code other than 0, so that an orchestrator starts the process again."""
        if self.failed:
            return
        log.critical("%s", reason)
        self.failed = self.should_exit = True
        self.service.draining = True
        self._row.set(Field.READY, 0)  # new connections are for others
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
        handlers = {signal.SIGTERM: self._stop}
        if self.service.worker is None:
            handlers |= {signal.SIGINT: self._stop, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        worker, phase = self.service.worker, self._row.board.phase
        if self.service.draining if worker is None else phase is Phase.ENDING:
            self.should_exit = self.force_exit = True
            self._force_exit_after(FORCED_EXIT_S, 1)
            return
        if self.service.draining:  # a signal to the whole group, and the parent's
            return
        self.service.draining = True
        if worker is not None and phase is Phase.SERVING:  # this one alone is to end
            self._row.set(Field.READY, 0)
        log.info("draining for at most %g s; a second signal ends it at once", self.service.settings.drain_s)
        self._force_exit_after(self.service.settings.drain_s + FORCED_EXIT_S, 1)
        self._spawn(self._drain_then_exit())

    def _reload(self) -> None:
        self._spawn(self._reload_and_log())

    async def _reload_and_log(self) -> None:
        try:
            reloaded = await self.service.reload()
        except (ApiError, BundleError, EngineError) as error:
            log.error("nothing was reloaded, what was served still is: %s", error)
        except Exception:
            log.exception("nothing was reloaded, what was served still is")
        else:
            log.info("reloaded: %s", ", ".join(change.describe() for change in reloaded.changes))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
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
            if self._is_busy():
                quiet_since = loop.time()
        self.config.timeout_graceful_shutdown = max(1, round(ends - loop.time()))
        self.should_exit = True

    def _is_busy(self) -> bool:
        """Whether there are requests; of all workers where all of them drain, so that all close together."""
        alone = self._row.board.phase is Phase.SERVING
        return bool(self._row.get(Field.REQUESTS) if alone else self.service.shared.admission.requests)


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
