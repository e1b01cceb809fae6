"""One start of the process: as the whole service, as the parent of workers, or as one of them."""

from __future__ import annotations

import asyncio
import logging

from model.manifest import BundleError
from model.runtime.engine import EngineError
from model.runtime.processor import divide_cores, usable_cores
from model.runtime.providers import NVIDIA, PROVIDERS, choose
from service import logs
from service.http.sockets import BindingError, bind
from service.keys import Keys
from service.memory import configure_malloc, container_limit, warn_if_memory_is_short
from service.server import Server, end_now
from service.settings import Settings, SettingsError
from service.state import Service
from service.threads import still_running
from service.web.auth import warn_if_open
from service.workers.handover import Handover
from service.workers.parent import Parent
from service.workers.worker import Worker

log = logging.getLogger(__name__)
CORES_PER_WORKER = 8  # of `auto`, where the model is computed on them
CORES_PER_WORKER_OF_GPU, MAX_WORKERS_OF_GPU = 4, 8


def run(settings: Settings) -> int:
    """Serve until the end; the exit code. Raises SettingsError for what only shows when it is used, such as a URL."""
    try:
        workers = count_workers(settings)
    except EngineError as error:
        log.critical("cannot start: %s", error)
        return 1
    warn_if_memory_is_short(settings, usable_cores(), container_limit(), workers)
    return _run_parent(settings, workers) if workers > 1 else _run_alone(settings)


def count_workers(settings: Settings) -> int:
    """How many processes are to serve. Raises EngineError where `auto` has to know a provider that is not there."""
    if settings.workers != "auto":
        return settings.workers
    if PROVIDERS[choose(settings.provider)[0]] in NVIDIA:
        return max(1, min(MAX_WORKERS_OF_GPU, usable_cores() // CORES_PER_WORKER_OF_GPU))
    return max(1, usable_cores() // CORES_PER_WORKER)


def _run_alone(settings: Settings) -> int:
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


def _run_parent(settings: Settings, workers: int) -> int:
    warn_if_open(Keys(settings), settings.host)
    try:
        sockets = bind(settings.host, settings.port)
        parent = Parent(settings, workers, sockets)
    except (BindingError, OSError) as error:
        log.critical("cannot start: %s", error)
        return 1
    return asyncio.run(parent.run())


def run_worker(handover: Handover, settings: Settings) -> int:
    """Serve as one of several workers, on what the parent has handed down; the exit code."""
    logs.configure(settings.log_format, handover.number)
    configure_malloc()
    divide_cores(handover.number, handover.count)
    worker = Worker(handover, settings)
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
