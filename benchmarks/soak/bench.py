"""What the phases share: sizes, inputs, progress, the service, and a monitor of its health and memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from rich.progress import Progress

from benchmarks.client import Answer, Client, request
from benchmarks.service_process import Running, running

LIVE = request("GET", "/health/live")
CLIENTS = 64


@dataclass(frozen=True)
class Size:
    """How long each part takes."""

    capacity_s: float
    fill_s: float  # of overload, until what is bounded is full: the queue, and what the allocator keeps for so many
    overload_s: float
    requests: int  # of the memory phase
    fairness_s: float
    step_s: float  # of the phases in which something happens to the service
    pictures: int


SIZES = {
    "full": Size(10, 60, 60, 100_000, 20, 10, 600),
    "quick": Size(3, 30, 12, 6_000, 6, 4, 200),
    "smallest": Size(0.5, 0.5, 1.5, 300, 1.5, 1, 20),
}


@dataclass
class Bench:
    """One soak."""

    size: Size
    bundle: Path
    folder: Path
    files: Sequence[bytes]
    progress: Progress

    @contextmanager
    def serving(self, model: Path | None = None, **settings: str) -> Iterator[Running]:
        """The real service as a process of its own."""
        with running(self.folder, model or self.bundle, log_format="json", **settings) as service:
            yield service

    @asynccontextmanager
    async def bar(self, what: str, seconds: float) -> AsyncIterator[None]:
        """A bar that fills with time."""
        task = self.progress.add_task(what, total=seconds)
        started = time.perf_counter()

        async def advance() -> None:
            while True:
                await asyncio.sleep(0.5)
                self.progress.update(task, completed=min(seconds, time.perf_counter() - started))

        advancing = asyncio.create_task(advance())
        try:
            yield
        finally:
            advancing.cancel()
            self.progress.remove_task(task)


@dataclass
class Monitor:
    """Health checks and memory of a process under load, sampled at an interval."""

    live: list[Answer] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # MiB

    @classmethod
    @asynccontextmanager
    async def watching(cls, service: Running, every_s: float = 0.25) -> AsyncIterator[Monitor]:
        """Sample its memory, and call /health/live as an orchestrator does, on a new connection each time."""
        monitor, process = cls(), psutil.Process(service.process.pid)

        async def look() -> None:
            while True:
                monitor.memory.append(process.memory_info().rss / 2**20)
                client = Client(service.url, timeout_s=10)
                called = time.perf_counter()
                answer = await client.send(LIVE)
                answer.seconds = time.perf_counter() - called  # with the time of connecting
                monitor.live.append(answer)
                client.close()
                await asyncio.sleep(every_s)

        looking = asyncio.create_task(look())
        try:
            yield monitor
        finally:
            looking.cancel()

    def growth(self) -> float:
        """MiB between the second quarter and the end."""
        quarter = max(1, len(self.memory) // 4)
        return statistics.median(self.memory[-quarter:]) - statistics.median(self.memory[quarter : 2 * quarter] or [0])

    @property
    def flat(self) -> bool:
        """Whether it grew by less than 5 %, or by less than 10 MiB."""
        return self.growth() < max(10, 0.05 * statistics.median(self.memory))

    def memory_summary(self) -> str:
        """Growth and maximum, for a check."""
        return f"{self.growth():+.1f} MiB, at most {max(self.memory):.0f} MiB"


def statuses(answers: Sequence[Answer]) -> dict[str, int]:
    """How many of each, for a report."""
    names = {0: "no answer", -1: "no connection"}
    counted = Counter(answer.status for answer in answers)
    return {names.get(status, str(status)): number for status, number in sorted(counted.items())}


def format_latencies(answers: Sequence[Answer], *shares: float) -> str:
    """Percentiles of the time that the answers took."""
    ordered = sorted(answer.seconds for answer in answers)
    if not ordered:
        return "none"
    percentiles = [
        f"p{100 * share:g} {1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.1f}" for share in shares
    ]
    return ", ".join([*percentiles, f"max {1e3 * ordered[-1]:.1f} ms"])


async def queue_drained(service: Running, wait_s: float = 20.0) -> bool:
    """Whether the gauges of the queue return to 0 within `wait_s` of the end of the load."""
    ends = time.monotonic() + wait_s
    async with httpx.AsyncClient(timeout=30) as client:
        while time.monotonic() < ends:
            lines = (await client.get(f"{service.url}/metrics")).text.splitlines()
            if {"sightword_queue_items 0.0", "sightword_queue_bytes 0.0"} <= set(lines):
                return True
            await asyncio.sleep(0.1)
    return False
