"""Before the first request: run both towers, and find the batch size beyond which a larger batch gains nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

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


def warm_up(
    engine: Engine, bundle: Bundle, max_batch: int | None, known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The largest batch by tower: `max_batch` if given, else what is `known`, else measured."""
    engine.warm_up()
    if max_batch is not None:
        return {"image": max_batch, "text": max_batch}
    if known is not None:
        return dict(known)
    size = bundle.image_size
    pixels = np.zeros((1, size, size, 3), np.uint8)
    ids = np.ones((1, min(TYPICAL_TEXT_TOKENS, bundle.context_length)), np.int64)
    ids[:, -1] = bundle.manifest.config.text.vocab_size - 1
    largest = LARGEST_BATCH.get(engine.provider, LARGEST_BATCH_ON_ACCELERATOR)
    return {
        "image": _best_batch(engine.embed_images, pixels, largest),
        "text": _best_batch(engine.embed_texts, ids, largest),
    }


def _best_batch(run: Callable[[NDArray[Any]], NDArray[np.float32]], one: NDArray[Any], largest: int) -> int:
    """The smallest batch whose items are nearly as cheap as the cheapest; larger ones would only add latency."""
    sizes = [min(SMALLEST_BATCH, largest)]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    per_item_s: dict[int, float] = {}
    for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine does not decide
        for size in sizes:
            started = time.perf_counter()
            run(np.repeat(one, size, axis=0))
            run_s = time.perf_counter() - started
            if run_s > LONGEST_RUN_S and per_item_s:
                sizes = [smaller for smaller in sizes if smaller < size]
                break
            per_item_s[size] = min(per_item_s.get(size, run_s), run_s / size)
    cheapest = min(per_item_s[size] for size in sizes)
    return next(size for size in sizes if per_item_s[size] <= cheapest * WORTHWHILE_GAIN)
