"""Memory, cores, the limits of a container, and where models are kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from model.hub.errors import HubError
from model.hub.settings import HubSettings
from model.runtime.processor import usable_cores
from service.memory import container_limit, needed_bytes
from service.settings import Settings
from sightword.command.doctor.finding import Finding, fail, ok, warn

LOWEST_MEMORY = 600_000_000  # with the bundled model and nothing to do, twice
LOWEST_DISK = 2_000_000_000  # of one large model
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def check_machine(settings: Settings) -> Iterator[Finding]:
    """`settings` are those of the service, which says how much clients can make it need."""
    yield _memory(settings)
    yield _cores()
    yield _home()


def _memory(settings: Settings) -> Finding:
    limit, needed = container_limit(), needed_bytes(settings, usable_cores())
    total, free = _memory_bytes()
    most = min(limit or total, total) if total else limit
    seen = f"{_size(total)} in all, {_size(free)} available" + (
        f", of which a container {_size(limit)}" if limit else ""
    )
    if free is not None and min(free, limit or free) < LOWEST_MEMORY:
        return fail("memory", seen, f"a service with the small model needs {_size(LOWEST_MEMORY)}: end other programs")
    if most is not None and needed > most:
        return warn(
            "memory",
            f"{seen}; clients can make the service need {_size(needed)}",
            "lower SIGHTWORD_MAX_IMAGE_PIXELS, SIGHTWORD_MAX_BODY_BYTES, SIGHTWORD_QUEUE_BYTES or "
            "SIGHTWORD_CACHE_BYTES, or give it more",
        )
    return ok("memory", seen)


def _memory_bytes() -> tuple[int | None, int | None]:
    """In all, and what is available; None where the system does not say."""
    with suppress(OSError, ValueError, KeyError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        found = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
        return found["MemTotal"], found["MemAvailable"]
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    return None, None


def _cores() -> Finding:
    cores = usable_cores()
    with suppress(OSError, ValueError):  # "max" is none
        quota, period = map(int, CPU_LIMIT.read_text("ascii").split())
        if quota / period < cores:
            return warn(
                "cores",
                f"{cores}, of which the container may use {quota / period:g}: threads beyond them wait for each other",
                "start it with --cpuset-cpus instead of --cpus, which onnxruntime sees",
            )
    return ok("cores", str(cores))


def _home() -> Finding:
    about = "models"
    try:
        home = HubSettings.read().home
    except HubError as error:
        return fail(about, str(error), "correct the variable")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        free = shutil.disk_usage(home).free
    except OSError as error:
        reason = error.strerror or str(error)
        return warn(about, f"cannot write to {home}: {reason}", "set SIGHTWORD_HOME to a folder for pulled models")
    seen = f"{home}, {_size(free)} free"
    if free < LOWEST_DISK:
        return warn(about, seen, "make room, or set SIGHTWORD_HOME to a folder on another disk")
    return ok(about, seen)


def _size(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"
