"""Warm-up before the first request: run both towers once, and measure the batch size and the workers that pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine, usable_cores
from model.runtime.providers import NVIDIA, ON_CPU, PROVIDERS

# Worth trying on a CPU: a picture has several times the tokens of a text, so that a few of them fill its cores.
BATCHES_ON_CPU = {"image": (4, 8), "text": (16, 32)}
BATCHES_ON_ACCELERATOR = (8, 16, 32, 64, 128)
ROUNDS = 3
MEASURING_S = 0.15  # of one tower, after which no other round begins
WORTHWHILE_GAIN = 1.03  # of a larger batch
CLEAR_GAIN = 1.15  # of one run at a time, over many of one thread each: these do without waits at the end of each step
LONGEST_RUN_S = 1.0  # a batch that runs longer makes everybody behind it wait for too long
TYPICAL_TEXT_TOKENS = 16


class TowerProfile(NamedTuple):
    """The largest batch that pays, how many batches to run side by side, and the seconds an item takes then."""

    max_batch: int
    workers: int
    seconds_per_item: float


Run = Callable[[NDArray[Any]], NDArray[np.float32]]
Costs = Mapping[tuple[int, int], float]  # seconds per item, by workers and batch size


def warm_up(
    engine: Engine, bundle: Bundle, max_batch: int | None, known: Mapping[str, TowerProfile] | None = None
) -> Mapping[str, TowerProfile]:
    """Run both towers once. Returns their profiles by tower: `known`, or else measured.

    With `max_batch`, batches of that size only are tried.
    """
    engine.warm_up()
    if known is not None:
        return known
    size = bundle.image_size
    pixels = np.zeros((1, size, size, 3), np.uint8)
    ids = np.ones((1, bundle.row_length(TYPICAL_TEXT_TOKENS)), np.int64)
    ids[:, -1] = bundle.manifest.config.text.vocab_size - 1
    towers: dict[str, tuple[Run, NDArray[Any]]] = {
        "image": (engine.embed_images, pixels),
        "text": (engine.embed_texts, ids),
    }
    return {tower: _profile(engine, tower, run, one, max_batch) for tower, (run, one) in towers.items()}


def _profile(engine: Engine, tower: str, run: Run, one: NDArray[Any], max_batch: int | None) -> TowerProfile:
    sizes: Sequence[int] = BATCHES_ON_CPU[tower] if engine.provider in ON_CPU else BATCHES_ON_ACCELERATOR
    if max_batch is not None:
        sizes = [min(max_batch, sizes[-1])]
    worker_counts = _worker_counts(engine.provider)
    costs = measure_costs(run, one, sizes, worker_counts)
    best = {
        workers: best_size({size: costs[workers, size] for size in sizes if (workers, size) in costs})
        for workers in worker_counts
    }
    many = worker_counts[-1]
    workers = 1 if costs[1, best[1]] * CLEAR_GAIN < costs[many, best[many]] else many
    return TowerProfile(max_batch or best[workers], workers, costs[workers, best[workers]])


def _worker_counts(provider: str) -> list[int]:
    if provider == PROVIDERS["cpu"]:
        return sorted({1, usable_cores()})
    # A GPU computes one batch while the next is put together and copied to it. OpenVINO's threads take the batches of
    # several workers in turn.
    return [1, 2] if provider in NVIDIA else [1]


def best_size(seconds_per_item: Mapping[int, float]) -> int:
    """The smallest batch whose items are nearly as cheap as the cheapest; larger ones would only add latency."""
    least = min(seconds_per_item.values())
    return min(size for size, seconds in seconds_per_item.items() if seconds <= least * WORTHWHILE_GAIN)


def measure_costs(
    run: Run,
    one: NDArray[Any],
    sizes: Sequence[int],
    worker_counts: Sequence[int],
    longest_run_s: float = LONGEST_RUN_S,
) -> Costs:
    """The least seconds per item. `one` is an input of one item [1, ...].

    Once a run takes longer than half of `longest_run_s`, larger batches are left out.
    """
    costs: dict[tuple[int, int], float] = {}
    ends = time.perf_counter() + MEASURING_S
    with ThreadPoolExecutor(worker_counts[-1]) as pool:
        for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine does not decide
            for workers in worker_counts:
                for size in sizes:
                    took_s = _timed(pool, run, np.repeat(one, size, axis=0), workers)
                    costs[workers, size] = min(costs.get((workers, size), took_s), took_s / (workers * size))
                    if 2 * took_s > longest_run_s:
                        break
            if time.perf_counter() > ends:
                break
    return costs


def _timed(pool: ThreadPoolExecutor, run: Run, batch: NDArray[Any], workers: int) -> float:
    started = time.perf_counter()
    list(pool.map(run, [batch] * workers))
    return time.perf_counter() - started
