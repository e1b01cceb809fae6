"""Runs of one tower side by side, on no more threads than it was opened with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from model.bundle import Bundle, bundled
from model.runtime.engine import Engine


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(bundled())


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_side_by_side_give_what_one_alone_gives(bundle: Bundle, threads: int) -> None:
    engine = Engine(bundle, "cpu", threads)
    rng = np.random.default_rng(0)
    batches = [
        rng.integers(0, 256, (size, bundle.image_size, bundle.image_size, 3), np.uint8) for size in (1, 2, 3, 4) * 8
    ]
    alone = [engine.embed_images(pixels) for pixels in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.embed_images, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_run_beside_another_raises_as_one_alone_does(bundle: Bundle) -> None:
    engine = Engine(bundle, "cpu", 2)
    wrong = np.zeros((1, 5, 5, 3), np.uint8)
    with ThreadPoolExecutor(1) as pool, engine.image_session.lock:  # another run is on its way
        with pytest.raises(RuntimeError, match="pixels"):
            pool.submit(engine.embed_images, wrong).result(60)
        good = np.zeros((1, bundle.image_size, bundle.image_size, 3), np.uint8)
        beside = pool.submit(engine.embed_images, good).result(60)
    np.testing.assert_allclose(beside, engine.embed_images(good), atol=1e-6)
