"""What a start becomes: a process that serves alone, or the parent of several that do."""

from __future__ import annotations

import asyncio
import logging

from model.requirements import needs
from model.runtime.processor import usable_cores
from service.http.sockets import BindingError, bind
from service.keys import Keys
from service.memory import container_limit, warn_if_memory_is_short
from service.settings import Settings
from service.web.auth import warn_if_open
from service.workers.one_service import join_workers
from service.workers.parent import Parent
from service.workers.weights_folder import weights_folder

log = logging.getLogger(__name__)
# Of `auto`. Measured: with the small model on the same cores, 16 cores keep two processes busy and 64 seven (STEPS.md).
CORES_PER_WORKER = 8
CORES_PER_WORKER_OF_GPU, MAX_WORKERS_OF_GPU = 4, 8


def run(settings: Settings) -> int:
    """Serve until the end; the exit code. Raises SettingsError for what only shows when it is used, such as a URL."""
    workers = count_workers(settings, usable_cores())
    warn_if_memory_is_short(settings, usable_cores(), container_limit(), workers)
    if workers > 1:
        return _run_parent(settings, workers)
    with needs("cpu"):  # not above: a parent does without it, which is half of its memory
        from service.serving import run_alone
    return run_alone(settings)


def count_workers(settings: Settings, cores: int) -> int:
    """How many processes are to serve."""
    if settings.workers != "auto":
        return settings.workers
    if _is_on_gpu(settings.provider):
        return max(1, min(MAX_WORKERS_OF_GPU, cores // CORES_PER_WORKER_OF_GPU))
    return max(1, cores // CORES_PER_WORKER)


def _is_on_gpu(provider: str) -> bool:
    with needs("cpu"):  # only for who asks
        from model.runtime.providers import NVIDIA, PROVIDERS, EngineError, choose
    try:
        return PROVIDERS[choose(provider)[0]] in NVIDIA
    except EngineError:  # for the one who is to open it to tell
        return False


def _run_parent(settings: Settings, workers: int) -> int:
    warn_if_open(Keys(settings), settings.host)
    with weights_folder() as weights:
        try:
            sockets = bind(settings.host, settings.port)
            parent = Parent(settings, workers, sockets, weights)
        except (BindingError, OSError) as error:
            log.critical("cannot start: %s", error)
            return 1
        join_workers(parent)
        return asyncio.run(parent.run())
