"""Where one process ends, whatever engine is behind it: CPU of the event loop's thread, and time under Python's lock.

The engine is a stub (`stub_service`). Each kind of request is read in a closed loop: first what CPU time the threads
take, then, sampled from outside, which of them holds the lock.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.client import Answer, Client, closed_loop
from benchmarks.inputs import commented, embed, image_item, jpeg_squares, raw_body
from benchmarks.service_process import Running, running
from benchmarks.speed.bench import Bench
from benchmarks.speed.interpreter_lock import ThreadTime, held_shares, thread_names, thread_times
from benchmarks.speed.load import TIMEOUT_S, drive, require_ok
from benchmarks.speed.photographs import SMALL
from model.bundle import Bundle
from service.settings import Settings

T = TypeVar("T")
STUB = "benchmarks.speed.stub_service"
# At most, of all clients together: an answer has to come soon, lest what is read be of requests that end later.
CLIENTS, ITEMS_IN_FLIGHT, BYTES_IN_FLIGHT = 64, 256, 24 * 2**20
MOST_BYTES = 12 * 2**20  # of one request: a list is as long as fits
SETTINGS = {"timeout_s": str(TIMEOUT_S), "log_format": "json", "queue_items": "4096", "provider": "cpu"}
SCALED = ("small raw", "text")  # kinds that several workers are asked for
GROUPS = {"MainThread": "loop", "decode": "decode", "image-tower": "tower", "text-tower": "tower"}  # by how names begin


@dataclass(frozen=True)
class Kind:
    """Requests of one kind, each of so many items."""

    name: str
    items: int
    requests: Sequence[bytes]

    @property
    def clients(self) -> int:
        """At most half as many as there are different requests: what is asked for twice at once is computed once."""
        return _clients(self.items, len(self.requests[0]))


def _clients(items: int, size: int) -> int:
    return max(2, min(CLIENTS, ITEMS_IN_FLIGHT // items, BYTES_IN_FLIGHT // size))


async def ceiling(bench: Bench) -> None:
    """Every kind on one process, without a cache and then all from the cache; and what several workers cost."""
    path = bench.models[-1]
    several = list(kinds(bench, Bundle.load(path).image_size))
    for cached in (False, True):
        cache_bytes = Settings.model_fields["cache_bytes"].default if cached else 0
        with (
            running(bench.folder, path, module=STUB, cache_bytes=str(cache_bytes), **SETTINGS) as service,
            bench.steps("from the cache" if cached else "computed", bench.size.rounds * len(several)) as begin,
        ):
            for turn, kind in itertools.product(range(bench.size.rounds), several):
                begin(f"round {turn + 1}, {kind.name}")
                asked = Kind(f"{kind.name}, hit", kind.items, kind.requests[:1]) if cached else kind
                for name, value in (await read(service, asked, bench.size.least_s)).items():
                    bench.record.add("", f"ceiling/{asked.name}/{name}", turn, value)
    await _scaling(bench, [kind for kind in several if kind.name in SCALED])


async def _scaling(bench: Bench, several: Sequence[Kind]) -> None:
    """Core-ms of an item by number of workers: see `benchmarks.speed.scaling`."""
    path = bench.models[-1]
    with ExitStack() as stack:
        services = {
            workers: stack.enter_context(
                running(bench.folder, path, module=STUB, workers=str(workers), cache_bytes="0", **SETTINGS)
            )
            for workers in bench.size.workers
        }
        begin = stack.enter_context(bench.steps("workers", bench.size.rounds * len(several) * len(services)))
        for turn, kind in itertools.product(range(bench.size.rounds), several):
            for workers, service in services.items():
                begin(f"round {turn + 1}, {kind.name}, {workers}")
                load = await drive(service.url, service.process.pid, kind.requests, bench.size.least_s, kind.clients)
                bench.record.add("", f"scaling/{kind.name}/{workers}", turn, load.rate.core_ms / kind.items)
                bench.record.add("", f"scaled/{kind.name}/{workers}", turn, load.rate.items_s * kind.items)


def kinds(bench: Bench, side: int) -> Iterator[Kind]:
    """Single items, then lists of several lengths. Small pictures are of the model's own size, for little decoding."""
    small, large = jpeg_squares(64, side), bench.inputs.by_size[SMALL]
    yield Kind("text", 1, bench.inputs.text_requests)
    for name, files in (("small", small), ("640x480", large)):
        yield Kind(f"{name} raw", 1, [raw_body(_different(files, number)) for number in range(2 * CLIENTS)])
    for items in bench.size.lists:
        yield _listed("text", items, lambda number: f"{number} {bench.inputs.texts[number % len(bench.inputs.texts)]}")
        for name, files in (("small", small), ("640x480", large)):
            fitting = min(items, MOST_BYTES * 3 // 4 // max(map(len, files)))
            yield _listed(f"{name} base64", fitting, lambda number, files=files: image_item(_different(files, number)))


def _listed(name: str, items: int, make: Callable[[int], object]) -> Kind:
    first = embed([make(number) for number in range(items)])
    starts = range(items, items * 2 * _clients(items, len(first)), items)
    others = [embed([make(number) for number in range(start, start + items)]) for start in starts]
    return Kind(f"{name}, list of {items}", items, [first, *others])


def _different(files: Sequence[bytes], number: int) -> bytes:
    return commented(files[number % len(files)], number)


async def read(service: Running, kind: Kind, seconds: float) -> Mapping[str, float]:
    """Items a second, and for each item core-ms of the loop's thread and of all threads, and ms under the lock.

    A thread that holds the lock and waits for a core, which another process has, is found to hold it all the while. So
    what was sampled of a thread is taken times the part of its time for which it did have a core.
    """
    pid = service.process.pid
    client, stopping = Client(service.url, timeout_s=TIMEOUT_S), asyncio.Event()
    load = asyncio.ensure_future(
        closed_loop(client, itertools.cycle(kind.requests), kind.clients, lambda _: not stopping.is_set())
    )
    try:
        await asyncio.sleep(seconds / 4)
        costs = await _observe(pid, asyncio.sleep(seconds))
        names = await thread_names(pid)
        locks = await _observe(pid, held_shares(pid, max(1, round(seconds))))
    finally:
        stopping.set()
        answers = require_ok(await load)
        client.close()
    items = kind.items * costs.answers(answers)
    found = {
        "items_s": items / costs.seconds,
        "loop_ms": 1e3 * costs.times[pid].cpu_s / items,
        "core_ms": 1e3 * sum(each.cpu_s for each in costs.times.values()) / items,
    }
    wall_ms = 1e3 * locks.seconds / (kind.items * locks.answers(answers))
    held = dict.fromkeys((*GROUPS.values(), "other"), 0.0)
    for thread, share in locks.result.items():
        held[_group(names.get(thread, ""))] += wall_ms * share * locks.times[thread].on_core
    return found | {"lock_ms": sum(held.values())} | {f"lock_{group}_ms": ms for group, ms in held.items()}


@dataclass
class _Observed(Generic[T]):
    """What went on while something was waited for. Times are of time.perf_counter."""

    began: float
    ended: float
    times: Mapping[int, ThreadTime]  # by thread
    result: T

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def answers(self, answers: Sequence[Answer]) -> int:
        """How many came meanwhile; at least one, lest a machine that is too busy for any divide by none."""
        return max(1, sum(self.began <= answer.sent + answer.seconds < self.ended for answer in answers))


async def _observe(pid: int, work: Awaitable[T]) -> _Observed[T]:
    before, began = thread_times(pid), time.perf_counter()
    result = await work
    ended, after = time.perf_counter(), thread_times(pid)
    times = {thread: last.since(before.get(thread, ThreadTime(0.0, 0.0))) for thread, last in after.items()}
    return _Observed(began, ended, times, result)


def _group(name: str) -> str:
    return next((group for beginning, group in GROUPS.items() if name.startswith(beginning)), "other")
