"""Phases that are only load: twice the capacity, very many requests, and an unequal pair of clients."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

from benchmarks.client import Answer, Client, closed_loop, for_seconds, open_loop, percentile, percentile_s
from benchmarks.inputs import embed, image_requests, mixed_requests, text_requests
from benchmarks.kernel_times import KernelTimedClient
from benchmarks.soak.bench import CLIENTS, Bench, Monitor, format_latencies, queue_drained, statuses
from benchmarks.soak.report import Phase
from benchmarks.speed.interpreter_lock import thread_times
from model.runtime.processor import usable_cores

TIMEOUT_S = 30.0
REFUSED_S = 0.05


async def overload(bench: Bench, kind: str) -> Phase:
    """At twice the capacity for a while, without a cache. Capacity is measured before and after.

    Answers are timed by the kernel: what the generator takes to read them on the same cores is not the service's.
    """
    phase = Phase(f"Twice the capacity, {kind}")
    requests = text_requests() if kind == "texts" else image_requests(bench.files)
    fill_s, seconds = bench.size.fill_s, bench.size.overload_s
    with bench.serving(cache_bytes="0", timeout_s=str(TIMEOUT_S)) as service:
        client = KernelTimedClient(service.url)
        await closed_loop(client, requests, CLIENTS, for_seconds(bench.size.capacity_s / 4))
        async with bench.bar(f"{kind}: capacity", bench.size.capacity_s):
            before, before_per_core = await _capacity(client, requests, bench.size.capacity_s)
        async with bench.bar(f"{kind}: twice as many", fill_s + seconds):
            load = asyncio.create_task(open_loop(client, requests, 2 * before, fill_s + seconds))
            await asyncio.sleep(fill_s)
            async with Monitor.watching(service) as monitor:
                cpu, started = time.process_time(), time.perf_counter()
                loop = thread_times(service.process.pid)[service.process.pid]
                answers = await load
                cpu, took_s = time.process_time() - cpu, time.perf_counter() - started
                loop = thread_times(service.process.pid)[service.process.pid].since(loop)
        left_nothing = await queue_drained(service)
        async with bench.bar(f"{kind}: capacity again", bench.size.capacity_s):
            after, after_per_core = await _capacity(client, requests, bench.size.capacity_s)
        client.close()
    capacity, capacity_per_core = (before + after) / 2, (before_per_core + after_per_core) / 2
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    goodput = _rate(served, started, started + 0.9 * seconds)
    share = _per_core(goodput, cpu / took_s) / capacity_per_core
    phase.check(
        "of the cores that the load generator leaves, goodput stays within 10 % of capacity", share >= 0.9,
        f"{share:.0%}; in all {goodput:.0f} of {capacity:.0f} requests/s, {goodput / capacity:.0%}", speed=True,
    )  # fmt: skip
    phase.check("only answers and refusals", {a.status for a in answers} <= {200, 429}, statuses(answers))
    phase.check(
        f"accepted requests keep their deadline of {TIMEOUT_S:g} s",
        all(answer.seconds <= TIMEOUT_S for answer in served), format_latencies(served, 0.5, 0.99), speed=True,
    )  # fmt: skip
    phase.check(
        "99 of 100 refusals come in under 50 ms", percentile_s(refused, 0.99) < REFUSED_S,
        format_latencies(refused, 0.5, 0.99), speed=True,
    )  # fmt: skip
    phase.check("memory is flat", monitor.flat, monitor.memory_summary(), speed=True)
    _check_health(phase, monitor)
    phase.check("the queue is empty afterwards", left_nothing, left_nothing)
    late_99, late_all = (1e3 * percentile([answer.late for answer in answers], share) for share in (0.99, 1))
    phase.figures = {
        "capacity before and after": f"{before:.0f}, {after:.0f} requests/s",
        "offered": f"{len(answers) / (fill_s + seconds):.0f} requests/s",
        "event loop of the service": f"{loop.cpu_s / took_s:.0%} of the time on a core, {loop.waited_s / took_s:.0%} "
        "waiting for one",
        "load generator": f"{cpu / took_s:.2f} cores, "
        f"sent late by at most {late_all:.0f} ms, 99 of 100 by at most {late_99:.0f} ms",
        "connections": client.opened,
    }
    return phase


async def _capacity(client: Client, requests: Iterator[bytes], seconds: float) -> tuple[float, float]:
    """Requests a second, and that for each core that the load generator leaves."""
    cpu, started = time.process_time(), time.perf_counter()
    answers = await closed_loop(client, requests, CLIENTS, for_seconds(seconds))
    cpu, took_s = time.process_time() - cpu, time.perf_counter() - started
    rate = _rate([answer for answer in answers if answer.status == 200], started, started + seconds)
    return rate, _per_core(rate, cpu / took_s)


def _per_core(rate: float, generator_cores: float) -> float:
    """At twice the capacity the generator takes more of the same cores, and not the service is to answer for that."""
    return rate / (usable_cores() - generator_cores)


def _rate(answers: list[Answer], start: float, end: float) -> float:
    """Answers a second that came in between."""
    return sum(start <= answer.sent + answer.seconds < end for answer in answers) / (end - start)


def _check_health(phase: Phase, monitor: Monitor) -> None:
    live = {answer.status for answer in monitor.live} == {200}
    phase.check(
        "/health/live answers throughout", live, f"{statuses(monitor.live)}, {format_latencies(monitor.live, 0.5)}"
    )


async def memory(bench: Bench) -> Phase:
    """Requests of every shape and size, good and bad, with a cache that is full early on."""
    phase = Phase(f"{bench.size.requests:,} requests of varied shapes")
    with bench.serving(cache_bytes=str(4 * 2**20)) as service:
        client = Client(service.url)
        task = bench.progress.add_task("varied shapes", total=bench.size.requests)

        def more(begun: int) -> bool:
            bench.progress.update(task, completed=begun)
            return begun < bench.size.requests

        async with Monitor.watching(service) as monitor:
            started = time.perf_counter()
            answers = await closed_loop(client, mixed_requests(bench.files), CLIENTS // 4, more)
            seconds = time.perf_counter() - started
        bench.progress.remove_task(task)
        client.close()
        phase.check(
            "only answers and refusals of bad requests", {a.status for a in answers} <= {200, 422}, statuses(answers)
        )
        phase.check("memory is flat", monitor.flat, monitor.memory_summary(), speed=True)
        _check_health(phase, monitor)
        phase.check("the queue is empty afterwards", await queue_drained(service), "queue gauges")
    phase.figures = {"rate": f"{len(answers) / seconds:.0f} requests/s"}
    return phase


async def fairness(bench: Bench) -> Phase:
    """One client sends 512 items at a time, one sends single items, neither with a pause."""
    phase = Phase("One client with 512 items, one with single ones")
    large = (embed([f"{number} {item} and some words more" for item in range(512)]) for number in itertools.count())
    with bench.serving(cache_bytes="0", timeout_s="120") as service:
        first, second = Client(service.url), Client(service.url)
        alone = await closed_loop(second, text_requests(1), 1, for_seconds(bench.size.fairness_s / 4))
        async with bench.bar("fairness", bench.size.fairness_s):
            more = for_seconds(bench.size.fairness_s)
            many, single = await asyncio.gather(
                closed_loop(first, large, 1, more), closed_loop(second, text_requests(2), 1, more)
            )
        first.close()
        second.close()
    phase.check("all are served", {answer.status for answer in [*many, *single]} == {200}, statuses([*many, *single]))
    phase.check("the large requests get on", len(many) > 1, f"{len(many)} of them")
    phase.check(
        "a single item takes less than a quarter of the time of a large request",
        percentile_s(single, 0.5) < percentile_s(many, 0.5) / 4,
        f"{format_latencies(single, 0.5, 0.99)} against {format_latencies(many, 0.5)}", speed=True,
    )  # fmt: skip
    phase.figures = {"a single item alone": format_latencies(alone, 0.5, 0.99), "single items": len(single)}
    return phase
