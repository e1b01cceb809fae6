"""Warm-up: what it finds from how long runs take, here those of a clock that the test sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine
from service.inference import warmup
from service.inference.warmup import TowerProfile, best_size, measure_costs, warm_up

ONE = np.zeros((1, 4), np.int64)


def taking(seconds: Callable[[int], float]) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    def run(batch: NDArray[Any]) -> NDArray[np.float32]:
        time.sleep(seconds(len(batch)))
        return np.zeros((len(batch), 1), np.float32)

    return run


def found(
    run: Callable[[NDArray[Any]], NDArray[np.float32]], sizes: Sequence[int], **options: float
) -> Mapping[tuple[int, int], float]:
    return measure_costs(run, ONE, sizes, [1], **options)


def test_what_is_known_is_not_measured_again(bundle: Bundle, engine: Engine) -> None:
    known = {"image": TowerProfile(4, 2, 0.01), "text": TowerProfile(16, 1, 0.001)}
    assert warm_up(engine, bundle, None, known) is known


def test_each_tower_gets_a_batch_workers_and_a_throughput(bundle: Bundle, engine: Engine) -> None:
    measured = warm_up(engine, bundle, None)
    assert set(measured) == {"image", "text"}
    for tower, one in measured.items():
        assert one.max_batch in warmup.BATCHES_ON_CPU[tower]
        assert one.workers in {1, warmup.usable_cores()}
        assert 0 < one.seconds_per_item < 1


def test_a_wanted_batch_is_kept(bundle: Bundle, engine: Engine) -> None:
    assert {one.max_batch for one in warm_up(engine, bundle, 3).values()} == {3}


def test_one_slow_run_decides_nothing() -> None:
    runs = iter([0.05, *[0.002] * 100])
    seconds_per_item = found(taking(lambda size: next(runs)), (4, 8))
    assert seconds_per_item[1, 4] < 0.01


def test_batches_that_take_too_long_are_not_tried_twice_as_large() -> None:
    seconds_per_item = found(taking(lambda size: 0.005 * size), (4, 8), longest_run_s=0.02)
    assert set(seconds_per_item) == {(1, 4)}


@pytest.mark.parametrize(("seconds_per_item", "best"), [({4: 1.0, 8: 0.99}, 4), ({4: 1.0, 8: 0.9}, 8), ({4: 1.0}, 4)])
def test_a_larger_batch_must_be_worth_its_wait(seconds_per_item: dict[int, float], best: int) -> None:
    assert best_size(seconds_per_item) == best
