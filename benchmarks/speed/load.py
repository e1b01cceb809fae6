"""Load on the service, or on its pipeline in this process; with the cost of the load generator itself."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.client import Answer, Client, Kind, Sender, closed_loop, for_seconds, open_loop, percentile_s
from benchmarks.service_process import Running, running
from benchmarks.speed.bare import Rate
from model.runtime.processor import usable_cores
from service.inference.pipeline import Pipeline
from service.inference.shared_resources import SharedResources
from service.metrics import Metrics
from service.models import Models
from service.request_context import RequestContext
from service.schema.items import Item
from service.settings import Settings

CLIENTS = 32
TIMEOUT_S = 600.0  # nothing is refused for being late, however slow the machine
RAMP = 0.25  # of the measured time, spent before it
SETTINGS = {"cache_bytes": "0", "timeout_s": str(TIMEOUT_S), "log_format": "json"}
ALL_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(usable_cores()))
# On two cores, one for the generator alone would be half of the service's.
GENERATOR_CORE = ALL_CORES[-1] if len(ALL_CORES) > 2 else None


class LoadError(RuntimeError):
    """A request was not answered 200: a throughput of that would mean nothing."""


@dataclass
class Load:
    """The result of a closed loop: throughput, CPU time on both sides, and the answers."""

    rate: Rate  # core_ms are those of the server's process
    generator_ms: float  # of a core for each request, in this process
    answers: list[Answer]


def leave_generator_core() -> None:
    """Keep what is measured, here and in processes started from here, off the generator's own core."""
    if GENERATOR_CORE is not None:
        os.sched_setaffinity(0, set(ALL_CORES) - {GENERATOR_CORE})


@contextmanager
def _generating() -> Iterator[None]:
    """Pin this thread, which generates load, to a core of its own where there are enough."""
    if GENERATOR_CORE is None:
        yield
        return
    os.sched_setaffinity(0, {GENERATOR_CORE})
    try:
        yield
    finally:
        leave_generator_core()


async def drive(url: str, pid: int, requests: Sequence[bytes], seconds: float, clients: int = CLIENTS) -> Load:
    """Closed loop of `clients`, with requests of one item each. Raises LoadError if one is not answered 200."""
    client = Client(url, timeout_s=TIMEOUT_S)
    process = psutil.Process(pid)
    try:
        with _generating():
            cpu, server_cpu = time.process_time(), _cpu_s(process)
            answers, in_window, items_s = await _closed_loop(client, itertools.cycle(requests), clients, seconds)
            cpu, server_cpu = time.process_time() - cpu, _cpu_s(process) - server_cpu
    finally:
        client.close()
    return Load(Rate(items_s, 1e3 * server_cpu / len(answers)), 1e3 * cpu / len(answers), in_window)


async def drive_open(url: str, requests: Iterator[bytes], rate: float, seconds: float) -> list[Answer]:
    """Open loop: requests at a constant rate. Raises LoadError if one is not answered 200."""
    client = Client(url, timeout_s=TIMEOUT_S)
    try:
        with _generating():
            return require_ok(await open_loop(client, requests, rate, seconds))
    finally:
        client.close()


def percentile_ms(answers: Sequence[Answer], share: float) -> float:
    """A percentile of their latency in milliseconds."""
    return 1e3 * percentile_s(answers, share)


async def drive_in_process(pipeline: Pipeline, items: Sequence[Item], seconds: float) -> Rate:
    """The service's own pipeline from items to vectors, without HTTP."""
    cpu = time.process_time()
    answers, _, items_s = await _closed_loop(_InProcess(pipeline), itertools.cycle(items), CLIENTS, seconds)
    return Rate(items_s, 1e3 * (time.process_time() - cpu) / len(answers))


async def _closed_loop(
    sender: Sender[Kind], requests: Iterator[Kind], clients: int, seconds: float
) -> tuple[list[Answer], list[Answer], float]:
    """All answers, those in the measured window, and their number a second."""
    started = time.perf_counter()
    answers = require_ok(await closed_loop(sender, requests, clients, for_seconds((1 + RAMP) * seconds)))
    window = started + RAMP * seconds
    in_window = [answer for answer in answers if window <= answer.sent + answer.seconds < window + seconds]
    if not in_window:  # too slow for so short a time, which then was too short for anything but a trial
        return answers, answers, len(answers) / (time.perf_counter() - started)
    return answers, in_window, len(in_window) / seconds


def require_ok(answers: list[Answer]) -> list[Answer]:
    """The answers. Raises LoadError if one is not 200."""
    if bad := [answer.status for answer in answers if answer.status != 200]:
        raise LoadError(f"{len(bad)} of {len(answers)} requests failed, the first with status {bad[0]}")
    return answers


class _InProcess:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def send(self, data: Item, /) -> Answer:
        sent = time.perf_counter()
        await self._pipeline.embed([data], RequestContext("benchmark"), truncate=None, keep_errors=False)
        return Answer(200, sent, time.perf_counter() - sent)


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


@asynccontextmanager
async def open_pipeline(bundle: Path, provider: str) -> AsyncIterator[Pipeline]:
    """The service's pipeline in this process, opened as the service opens it."""
    settings = Settings(
        model=(str(bundle),), provider=provider, cache_bytes=0, timeout_s=TIMEOUT_S, _env_file=None,
    )  # fmt: skip
    shared = SharedResources(settings, Metrics())
    models = Models(shared)
    try:
        models.load()
        yield models.find(None)
    finally:
        models.close()
        await shared.aclose()


@contextmanager
def serving(folder: Path, bundle: Path, provider: str, **settings: str) -> Iterator[Running]:
    """The real service as a process of its own, without a cache unless `settings` say otherwise."""
    with running(folder, bundle, provider=provider, **SETTINGS | settings) as service:
        yield service


@contextmanager
def dummy_server(name: str) -> Iterator[tuple[str, int]]:
    """A server of `benchmarks.speed.dummy_servers`: its address and process id."""
    command = [sys.executable, "-m", "benchmarks.speed.dummy_servers", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise LoadError(f"the stand-in {name} did not start")
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
