"""How much all cores do with a process each: what threads, and a loader, can be held against, whatever cores share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from benchmarks.speed.bare import rate

START_S = 60.0

Make = Callable[..., Callable[[], object]]


def rate_of_processes(make: Make, arguments: tuple[Any, ...], count: int, seconds: float) -> float:
    """Calls a second of `make(*arguments)`, made and called in each of `count` processes, all of them at once."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_measure, args=(make, arguments, barrier, rates, seconds)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        return float(sum(rates.get(timeout=START_S + seconds) for _ in processes))
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _measure(make: Make, arguments: tuple[Any, ...], barrier: Any, rates: Any, seconds: float) -> None:
    call = make(*arguments)
    call()
    barrier.wait(START_S)
    rates.put(rate(call, 1, 1, seconds).items_s)
    barrier.wait(START_S)  # none leaves its core to the others before all are done
