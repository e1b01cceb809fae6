"""The batcher's promises, with the real engine behind a gate that the test opens."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import ApiError
from service.inference.batcher import Batcher
from service.request_context import Timing
from tests.service.gated_tower import GatedTower, Rows, drive, occupy

POISON = 7


def test_a_lone_item_runs_at_once(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        tower.gate.set()
        timing = Timing()
        [ids] = tower.ids("a photo of a cat")
        [future] = make_batcher(tower).submit([ids], timing)
        np.testing.assert_allclose(await future, tower.run([ids])[0], atol=1e-6)
        assert tower.sizes() == [1]
        assert set(timing.stages) == {"queue", "inference"}

    drive(scenario())


def test_while_a_batch_runs_the_next_one_fills(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=4)
        first = await occupy(batcher, tower)
        rows = tower.ids(*"abcdef")
        futures = [future for ids in rows for future in batcher.submit([ids], Timing())]
        tower.gate.set()
        vectors = await asyncio.gather(first, *futures)
        assert tower.sizes() == [1, 4, 2]
        np.testing.assert_allclose(vectors[1:], tower.run(rows), atol=1e-5)

    drive(scenario())


def test_requests_of_one_turn_of_the_loop_share_a_batch(
    tower: GatedTower, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        tower.gate.set()
        batcher = make_batcher(tower)
        futures = [future for ids in tower.ids(*"abc") for future in batcher.submit([ids], Timing())]
        await asyncio.gather(*futures)
        assert tower.sizes() == [3]

    drive(scenario())


def test_groups_do_not_mix_and_the_longest_waiting_goes_first(
    tower: GatedTower, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, group=lambda ids: len(ids) // 16)
        first = await occupy(batcher, tower)
        long, short = " ".join(["word"] * 40), "word"
        futures = batcher.submit(tower.ids(long, short, long, short, short), Timing())
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert [[len(ids) > 16 for ids in rows] for rows in tower.batches[1:]] == [[True, True], [False] * 3]

    drive(scenario())


def test_cancelled_items_are_not_run(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=2)
        first = await occupy(batcher, tower)
        futures = batcher.submit(tower.ids(*"abcde"), Timing())
        for future in futures[:3]:
            future.cancel()
        tower.gate.set()
        await asyncio.gather(first, *futures[3:])
        assert tower.batches[1:] == [tower.ids("d", "e")]

    drive(scenario())


def test_cancelling_an_item_that_runs_harms_nobody(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower)
        first = await occupy(batcher, tower)
        [second] = batcher.submit(tower.ids("second"), Timing())
        first.cancel()
        tower.gate.set()
        await second

    drive(scenario())


def _poisoned(tower: GatedTower, harm: Callable[[Rows, NDArray[np.float32]], NDArray[np.float32]]) -> Any:
    tower.gate.set()

    def run(rows: Rows) -> NDArray[np.float32]:
        return harm(rows, tower(rows))

    return run


def _raise(rows: Rows, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if any(POISON in ids for ids in rows):
        raise RuntimeError("the device met something it does not like")
    return vectors


def _not_a_number(rows: Rows, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where([[POISON in ids] for ids in rows], np.nan, vectors)


def _too_few(rows: Rows, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors[1:] if any(POISON in ids for ids in rows) else vectors


@pytest.mark.parametrize("harm", [_raise, _not_a_number, _too_few])
def test_a_poisoned_item_fails_alone(tower: GatedTower, make_batcher: Callable[..., Batcher], harm: Any) -> None:
    async def scenario() -> None:
        batcher = make_batcher(_poisoned(tower, harm))
        good = tower.ids("a", "b", "c")
        rows = [good[0], [*good[0][:-1], POISON, good[0][-1]], *good[1:]]
        outcomes = await asyncio.gather(*batcher.submit(rows, Timing()), return_exceptions=True)
        error = outcomes.pop(1)
        assert isinstance(error, ApiError)
        assert error.code == "inference_error"
        np.testing.assert_allclose(np.stack(outcomes), tower.run(good), atol=1e-5)  # type: ignore[arg-type]

    drive(scenario())


def test_failing_is_told_until_an_execution_succeeds(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(_poisoned(tower, _raise))
        [future] = batcher.submit([[POISON]], Timing())
        with pytest.raises(ApiError):
            await future
        assert batcher.failing
        [future] = batcher.submit(tower.ids("fine"), Timing())
        await future
        assert not batcher.failing

    drive(scenario())


def test_a_probe_does_not_wait_in_line(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower)
        first = await occupy(batcher, tower)
        futures = batcher.submit(tower.ids("waiting"), Timing())
        futures += batcher.submit(tower.ids("probe"), Timing(), urgent=True)
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert tower.batches[1] == tower.ids("probe")

    drive(scenario())


def test_closing_resolves_what_waits(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower)
        first = await occupy(batcher, tower)
        [waiting] = batcher.submit(tower.ids("waiting"), Timing())
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        while not batcher.closed:
            await asyncio.sleep(0.001)
        tower.gate.set()
        await closing
        await first
        with pytest.raises(ApiError, match="stopping"):
            await waiting
        with pytest.raises(ApiError, match="stopping"):
            batcher.submit(tower.ids("late"), Timing())

    drive(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_leaves_nobody_waiting(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    def run(rows: Rows) -> NDArray[np.float32]:
        tower(rows)
        raise GeneratorExit("not an Exception: nothing catches it on the way")

    async def scenario() -> None:
        batcher = make_batcher(run)
        first = await occupy(batcher, tower)
        [waiting] = batcher.submit(tower.ids("waiting"), Timing())
        tower.gate.set()
        codes = [error.code for error in await asyncio.gather(first, waiting, return_exceptions=True)]  # type: ignore[union-attr]
        assert codes == ["inference_error", "unavailable"]
        batcher.close()
        assert not batcher.alive

    drive(scenario())


def test_a_closed_batcher_lets_go_of_its_model() -> None:
    """At once, by reference counting: after a reload, the old weights must not wait for the garbage collector."""

    class Model:
        def run(self, rows: Rows) -> NDArray[np.float32]:
            return np.zeros((len(rows), 1), np.float32)

    model = Model()
    gone = weakref.ref(model)
    batcher = Batcher("text", model.run, 4)
    del model
    assert gone() is not None
    gc.disable()
    try:
        batcher.close()
        assert gone() is None
    finally:
        gc.enable()
