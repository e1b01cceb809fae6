"""Before the first request: run both towers, and find the batch size beyond which a larger batch gains nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.engine import Engine

SMALLEST_BATCH = 8
LARGEST_BATCH = {"CPUExecutionProvider": 32}
LARGEST_BATCH_ON_ACCELERATOR = 128
ROUNDS = 3
WORTHWHILE_GAIN = 1.05
LONGEST_RUN_S = 0.5  # a batch that runs longer makes everybody behind it wait for too long
TYPICAL_TEXT_TOKENS = 16


class Measured(NamedTuple):
    """The largest batch of a tower that is worth it, and how long an item takes in one."""

    max_batch: int
    item_s: float


Run = Callable[[NDArray[Any]], NDArray[np.float32]]


def warm_up(
    engine: Engine, bundle: Bundle, max_batch: int | None, known: Mapping[str, Measured] | None = None
) -> Mapping[str, Measured]:
    """What is known by tower, or else measured: with batches of `max_batch` if given."""
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
    if max_batch is not None:
        return {tower: Measured(max_batch, _item_s(run, one, max_batch)) for tower, (run, one) in towers.items()}
    largest = LARGEST_BATCH.get(engine.provider, LARGEST_BATCH_ON_ACCELERATOR)
    return {tower: _best_batch(run, one, largest) for tower, (run, one) in towers.items()}


def _best_batch(run: Run, one: NDArray[Any], largest: int) -> Measured:
    """The smallest batch whose items are nearly as cheap as the cheapest; larger ones would only add latency."""
    sizes = [min(SMALLEST_BATCH, largest)]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    per_item_s: dict[int, float] = {}
    for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine does not decide
        for size in sizes:
            item_s = _item_s(run, one, size)
            if item_s * size > LONGEST_RUN_S and per_item_s:
                sizes = [smaller for smaller in sizes if smaller < size]
                break
            per_item_s[size] = min(per_item_s.get(size, item_s), item_s)
    cheapest = min(per_item_s[size] for size in sizes)
    best = next(size for size in sizes if per_item_s[size] <= cheapest * WORTHWHILE_GAIN)
    return Measured(best, per_item_s[best])


def _item_s(run: Run, one: NDArray[Any], size: int) -> float:
    batch = np.repeat(one, size, axis=0)
    started = time.perf_counter()
    run(batch)
    return (time.perf_counter() - started) / size
