"""Warm-up before the first request: run both towers, and measure the batch size and the workers that pay.

Where the first run of a shape is slow, every shape that a request can meet is run once before anything is timed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.device_memory import is_out_of_memory
from model.runtime.engine import Engine, EngineError, token_row
from model.runtime.processor import usable_cores
from model.runtime.providers import NVIDIA, ON_CPU, PROVIDERS
from service.inference.padding import is_padded, padded_lengths, padded_sizes

log = logging.getLogger(__name__)
# Worth trying on a CPU: a picture has several times the tokens of a text, so that a few of them fill its cores.
BATCHES_ON_CPU = {"image": (4, 8), "text": (16, 32)}
BATCHES_ON_ACCELERATOR = (8, 16, 32, 64, 128)
ROUNDS = 3
MEASURING_S = 0.15  # of one tower, after which no other round begins
WORTHWHILE_GAIN = 1.03  # of a larger batch
WORTHWHILE_GAIN_ON_CPU = 1.1  # less is chance there: the choice would be another one at each start
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


class Tower(NamedTuple):
    """A tower to warm up: how it is run, and one item [1, ...] of each shape that its batches are made of."""

    name: str
    run: Run
    items: Sequence[NDArray[Any]]


def warm_up(
    engine: Engine, bundle: Bundle, max_batch: int | None, known: Mapping[str, TowerProfile] | None = None
) -> Mapping[str, TowerProfile]:
    """Run both towers. Returns their profiles by tower: `known`, or else measured.

    With `max_batch`, batches of that size only are tried. Those that the device has no memory for are left out.
    Raises EngineError where the engine does not run, or has no memory for a single item.
    """
    try:
        engine.warm_up()
    except EngineError as error:
        raise (_no_memory(bundle) if is_out_of_memory(error) else error) from error
    if known is not None and not is_padded(engine.provider):
        return known
    profiles = {}
    for tower in _towers(engine, bundle):
        before = known[tower.name] if known else None
        sizes = _sizes(engine.provider, tower, before.max_batch if before else max_batch)
        if engine.provider != PROVIDERS["cpu"]:  # which has nothing to prepare for a shape
            sizes = _run_all_shapes(engine.provider, tower, sizes)
            if not sizes:
                raise _no_memory(bundle)
        if before is None:
            profiles[tower.name] = _measure(engine.provider, tower, sizes, max_batch)
        else:
            profiles[tower.name] = before._replace(max_batch=sizes[-1])
    return profiles


def _towers(engine: Engine, bundle: Bundle) -> list[Tower]:
    pixels = np.zeros((1, bundle.image_size, bundle.image_size, 3), np.uint8)
    lengths = padded_lengths(bundle) if is_padded(engine.provider) else [TYPICAL_TEXT_TOKENS]
    texts = [token_row(bundle, length) for length in lengths]
    return [Tower("image", engine.embed_images, [pixels]), Tower("text", engine.embed_texts, texts)]


def _sizes(provider: str, tower: Tower, max_batch: int | None) -> Sequence[int]:
    """The sizes that batches have where they are padded; elsewhere those worth trying."""
    if is_padded(provider):
        return padded_sizes(max_batch or BATCHES_ON_ACCELERATOR[-1])
    sizes = BATCHES_ON_CPU[tower.name]
    return sizes if max_batch is None else [min(max_batch, sizes[-1])]


def _run_all_shapes(provider: str, tower: Tower, sizes: Sequence[int]) -> Sequence[int]:
    """Run each shape once, from the smallest. Returns the sizes that there is memory for."""
    longest_run_s = LONGEST_RUN_S if provider in ON_CPU else math.inf  # of building plans or engines, it says nothing
    for index, size in enumerate(sizes):
        started = time.perf_counter()
        try:
            for one in tower.items:
                tower.run(np.repeat(one, size, axis=0))
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            if not is_out_of_memory(error):
                raise
            log.warning("the device has no memory for batches of %d %ss: they stay below", size, tower.name)
            return sizes[:index]
        if time.perf_counter() - started > longest_run_s:
            return sizes[: index + 1]
    return sizes


def _measure(provider: str, tower: Tower, sizes: Sequence[int], max_batch: int | None) -> TowerProfile:
    """The profile of the best of the sizes, or of `max_batch` where it is given and among them."""
    if is_padded(provider):
        worthwhile = [size for size in sizes if size in BATCHES_ON_ACCELERATOR] or sizes[-1:]
        largest, sizes = sizes[-1], worthwhile if max_batch is None else worthwhile[-1:]
        max_batch = max_batch and min(max_batch, largest)
    worker_counts = _worker_counts(provider)
    costs = measure_costs(tower.run, tower.items[0], sizes, worker_counts)
    gain = WORTHWHILE_GAIN_ON_CPU if provider in ON_CPU else WORTHWHILE_GAIN
    best = {
        workers: best_size({size: costs[workers, size] for size in sizes if (workers, size) in costs}, gain)
        for workers in sorted({workers for workers, _ in costs})
    }
    many = max(best)
    workers = 1 if costs[1, best[1]] * CLEAR_GAIN < costs[many, best[many]] else many
    return TowerProfile(max_batch or best[workers], workers, costs[workers, best[workers]])


def _worker_counts(provider: str) -> list[int]:
    if provider == PROVIDERS["cpu"]:
        return sorted({1, usable_cores()})
    # A GPU computes one batch while the next is put together and copied to it. OpenVINO's threads take the batches of
    # several workers in turn.
    return [1, 2] if provider in NVIDIA else [1]


def _no_memory(bundle: Bundle) -> EngineError:
    return EngineError(
        f"{bundle.path} is opened, and then the device has no memory for a single item: end what else is on it, take "
        "another device, or a smaller model or precision"
    )


def best_size(seconds_per_item: Mapping[int, float], gain: float = WORTHWHILE_GAIN) -> int:
    """The smallest batch whose items are nearly as cheap as the cheapest; larger ones would only add latency."""
    least = min(seconds_per_item.values())
    return min(size for size, seconds in seconds_per_item.items() if seconds <= least * gain)


def measure_costs(
    run: Run,
    one: NDArray[Any],
    sizes: Sequence[int],
    worker_counts: Sequence[int],
    longest_run_s: float = LONGEST_RUN_S,
    measuring_s: float = MEASURING_S,
) -> Costs:
    """The least seconds per item. `one` is an input of one item [1, ...]. What there is no memory for is left out.

    Once a run takes longer than half of `longest_run_s`, larger batches are left out; no round begins after
    `measuring_s`.
    """
    costs: dict[tuple[int, int], float] = {}
    ends = time.perf_counter() + measuring_s
    with ThreadPoolExecutor(worker_counts[-1]) as pool:
        for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine does not decide
            for workers in worker_counts:
                for size in sizes:
                    took_s = _timed(pool, run, np.repeat(one, size, axis=0), workers)
                    if took_s is None:  # several at once do not fit
                        break
                    costs[workers, size] = min(costs.get((workers, size), took_s), took_s / (workers * size))
                    if 2 * took_s > longest_run_s:
                        break
            if time.perf_counter() > ends:
                break
    return costs


def _timed(pool: ThreadPoolExecutor, run: Run, batch: NDArray[Any], workers: int) -> float | None:
    """Seconds of so many runs side by side; None where the device has no memory for them."""
    started = time.perf_counter()
    failures = [future.exception() for future in [pool.submit(run, batch) for _ in range(workers)]]
    took_s = time.perf_counter() - started
    for failure in failures:
        if failure is not None and not is_out_of_memory(failure):
            raise failure
    return None if any(failures) else took_s
