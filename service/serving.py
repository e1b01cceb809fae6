"""One process that serves: the whole service, or one of its workers."""

from __future__ import annotations

import logging

from model.manifest import BundleError
from model.runtime.engine import EngineError
from model.runtime.processor import divide_cores
from service import logs
from service.http.sockets import BindingError, bind
from service.memory import configure_malloc
from service.server import Server, end_now
from service.settings import Settings, SettingsError
from service.state import Service
from service.threads import still_running
from service.web.auth import warn_if_open
from service.workers.handover import Handover
from service.workers.worker import Worker

log = logging.getLogger(__name__)


def run_alone(settings: Settings) -> int:
    """Serve until the end; the exit code. Raises SettingsError for what only shows when it is used, such as a URL."""
    configure_malloc()
    server = Server(Service(settings))
    warn_if_open(server.service.keys, settings.host)
    try:
        server.loading = server.service.models.check()
        sockets = bind(settings.host, settings.port)
    except (BundleError, EngineError, BindingError) as error:
        log.critical("cannot start: %s", error)
        return 1
    server.run(sockets)
    return _status(server)


def run_worker(handover: Handover, settings: Settings) -> int:
    """Serve as one of several workers, on what the parent has handed down; the exit code."""
    logs.configure(settings.log_format, handover.number)
    configure_malloc()
    divide_cores(handover.number, handover.count)
    worker = Worker(handover)
    try:
        server = Server(Service(settings, worker))
        server.loading = server.service.models.check()
    except (SettingsError, BundleError, EngineError) as error:
        log.critical("cannot start: %s", error)
        return 1
    server.run(worker.sockets)
    return _status(server)


def _status(server: Server) -> int:
    status = 1 if server.failed or not server.started else 0
    if still_running():  # to take the interpreter down under it would abort the process
        end_now(status)
    return status
