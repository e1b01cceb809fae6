"""The comparison of decoders: what is installed gives the same square, and what is not is told."""

from __future__ import annotations

import io
import time

import numpy as np
from PIL import Image

from benchmarks.decoding.libraries import EXACT, SERVED, libraries
from benchmarks.decoding.speed import LockWaits, core_ms
from benchmarks.inputs import PHOTOGRAPHS
from model.config import Preprocessing

CONFIG = Preprocessing(size=64)


def test_every_library_gives_the_square() -> None:
    file = io.BytesIO()
    Image.open(PHOTOGRAPHS / "chelsea.jpg").save(file, "JPEG", quality=90)
    ways = dict(libraries())
    assert {EXACT, SERVED} <= {name for name, decode in ways.items() if decode is not None}
    exact = ways[EXACT](file.getvalue(), CONFIG)
    for name, decode in ways.items():
        if decode is not None:
            assert np.abs(decode(file.getvalue(), CONFIG).astype(float) - exact).mean() < 8, name
            assert core_ms(decode, [file.getvalue()], CONFIG) > 0


def test_a_call_that_keeps_the_lock_is_seen() -> None:
    numbers = list(np.random.default_rng(0).random(200_000))
    with LockWaits() as lock:
        ends = time.perf_counter() + 0.5
        while time.perf_counter() < ends:
            sorted(numbers)
    assert max(lock.waits) > 5e-3
