"""Before the first request: run both towers, and find how to run them: the batch size, and how many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine, usable_cores
from model.runtime.providers import ON_CPU, PROVIDERS

# Worth trying on a CPU: a picture has several times the tokens of a text, so that a few of them fill its cores.
BATCHES_ON_CPU = {"image": (4, 8), "text": (16, 32)}
BATCHES_ON_ACCELERATOR = (8, 16, 32, 64, 128)
ROUNDS = 3
MEASURING_S = 0.15  # of one tower, after which no other round begins
WORTHWHILE_GAIN = 1.03  # of a larger batch
CLEAR_GAIN = 1.15  # of one run at a time, over many of one thread each: these do without waits at the end of each step
LONGEST_RUN_S = 1.0  # a batch that runs longer makes everybody behind it wait for too long
TYPICAL_TEXT_TOKENS = 16


class Measured(NamedTuple):
    """The largest batch of a tower that is worth it, how many to run at once, and how long an item takes then."""

    max_batch: int
    lanes: int
    item_s: float


Run = Callable[[NDArray[Any]], NDArray[np.float32]]


def warm_up(
    engine: Engine, bundle: Bundle, max_batch: int | None, known: Mapping[str, Measured] | None = None
) -> Mapping[str, Measured]:
    """What is known by tower, or else measured: for batches of up to `max_batch` if given."""
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
    return {tower: _measure(engine, tower, run, one, max_batch) for tower, (run, one) in towers.items()}


def _measure(engine: Engine, tower: str, run: Run, one: NDArray[Any], max_batch: int | None) -> Measured:
    sizes: Sequence[int] = BATCHES_ON_CPU[tower] if engine.provider in ON_CPU else BATCHES_ON_ACCELERATOR
    if max_batch is not None:
        sizes = [min(max_batch, sizes[-1])]
    # OpenVINO's threads take the batches of several lanes in turn.
    ways = sorted({1, usable_cores()}) if engine.provider == PROVIDERS["cpu"] else [1]
    item_s = _item_s(run, one, sizes, ways)
    best = {
        lanes: _best_size({size: item_s[lanes, size] for size in sizes if (lanes, size) in item_s}) for lanes in ways
    }
    lanes = 1 if item_s[1, best[1]] * CLEAR_GAIN < item_s[ways[-1], best[ways[-1]]] else ways[-1]
    return Measured(max_batch or best[lanes], lanes, item_s[lanes, best[lanes]])


def _best_size(item_s: Mapping[int, float]) -> int:
    """The smallest batch whose items are nearly as cheap as the cheapest; larger ones would only add latency."""
    return min(size for size in item_s if item_s[size] <= min(item_s.values()) * WORTHWHILE_GAIN)


def _item_s(run: Run, one: NDArray[Any], sizes: Sequence[int], ways: Sequence[int]) -> dict[tuple[int, int], float]:
    """The least seconds for an item, by lanes and size; without sizes that take too long, but the smallest."""
    least: dict[tuple[int, int], float] = {}
    ends = time.perf_counter() + MEASURING_S
    with ThreadPoolExecutor(ways[-1]) as pool:
        for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine does not decide
            for lanes in ways:
                for size in sizes:
                    took_s = _timed(pool, run, np.repeat(one, size, axis=0), lanes)
                    least[lanes, size] = min(least.get((lanes, size), took_s), took_s / (lanes * size))
                    if 2 * took_s > LONGEST_RUN_S:
                        break
            if time.perf_counter() > ends:
                break
    return least


def _timed(pool: ThreadPoolExecutor, run: Run, batch: NDArray[Any], lanes: int) -> float:
    started = time.perf_counter()
    list(pool.map(run, [batch] * lanes))
    return time.perf_counter() - started
