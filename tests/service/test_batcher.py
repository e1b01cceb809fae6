"""The batcher's promises, with the real engine behind a gate that the test opens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.engine import Engine
from service.batcher import Batcher
from service.errors import ApiError
from service.timing import Timing

Rows = Sequence[list[int]]
POISON = 7
WAIT_S = 20.0


class GatedTower:
    """The text tower of the real engine; holds each batch until the gate is open, and notes what it was given."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.tokenizer, self.engine = bundle.tokenizer(), engine
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[Rows] = []

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        self.batches.append(rows)
        self.started.set()
        assert self.gate.wait(WAIT_S)
        return self.run(rows)

    def run(self, rows: Rows) -> NDArray[np.float32]:
        return self.engine.embed_texts(self.tokenizer.pad(rows))

    def ids(self, *texts: str) -> list[list[int]]:
        return self.tokenizer.encode(texts)

    def sizes(self) -> list[int]:
        return [len(rows) for rows in self.batches]


@pytest.fixture
def tower(bundle: Bundle, engine: Engine) -> GatedTower:
    return GatedTower(bundle, engine)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def build(run: Callable[[Rows], NDArray[np.float32]], max_batch: int = 4, **options: Any) -> Batcher:
        made.append(Batcher("text", run, max_batch, **options))
        return made[-1]

    yield build
    for batcher in made:
        batcher.close()


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT_S):
            await coroutine

    asyncio.run(limited())


async def occupy(batcher: Batcher, tower: GatedTower) -> asyncio.Future[NDArray[np.float32]]:
    """Let the engine be busy with one item."""
    [future] = batcher.submit(tower.ids("first"), Timing())
    while not tower.started.is_set():
        await asyncio.sleep(0.001)
    return future


def test_a_lone_item_runs_at_once(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        tower.gate.set()
        timing = Timing()
        [ids] = tower.ids("a photo of a cat")
        [future] = make(tower).submit([ids], timing)
        np.testing.assert_allclose(await future, tower.run([ids])[0], atol=1e-6)
        assert tower.sizes() == [1]
        assert set(timing.stages) == {"queue", "inference"}

    drive(scenario())


def test_while_a_batch_runs_the_next_one_fills(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower, max_batch=4)
        first = await occupy(batcher, tower)
        rows = tower.ids(*"abcdef")
        futures = [future for ids in rows for future in batcher.submit([ids], Timing())]
        tower.gate.set()
        vectors = await asyncio.gather(first, *futures)
        assert tower.sizes() == [1, 4, 2]
        np.testing.assert_allclose(vectors[1:], tower.run(rows), atol=1e-5)

    drive(scenario())


def test_requests_of_one_turn_of_the_loop_share_a_batch(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        tower.gate.set()
        batcher = make(tower)
        futures = [future for ids in tower.ids(*"abc") for future in batcher.submit([ids], Timing())]
        await asyncio.gather(*futures)
        assert tower.sizes() == [3]

    drive(scenario())


def test_groups_do_not_mix_and_the_longest_waiting_goes_first(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower, group=lambda ids: len(ids) // 16)
        first = await occupy(batcher, tower)
        long, short = " ".join(["word"] * 40), "word"
        futures = batcher.submit(tower.ids(long, short, long, short, short), Timing())
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert [[len(ids) > 16 for ids in rows] for rows in tower.batches[1:]] == [[True, True], [False] * 3]

    drive(scenario())


def test_cancelled_items_are_not_run(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower, max_batch=2)
        first = await occupy(batcher, tower)
        futures = batcher.submit(tower.ids(*"abcde"), Timing())
        for future in futures[:3]:
            future.cancel()
        tower.gate.set()
        await asyncio.gather(first, *futures[3:])
        assert tower.batches[1:] == [tower.ids("d", "e")]

    drive(scenario())


def test_cancelling_an_item_that_runs_harms_nobody(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower)
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
def test_a_poisoned_item_fails_alone(tower: GatedTower, make: Callable[..., Batcher], harm: Any) -> None:
    async def scenario() -> None:
        batcher = make(_poisoned(tower, harm))
        good = tower.ids("a", "b", "c")
        rows = [good[0], [*good[0][:-1], POISON, good[0][-1]], *good[1:]]
        outcomes = await asyncio.gather(*batcher.submit(rows, Timing()), return_exceptions=True)
        error = outcomes.pop(1)
        assert isinstance(error, ApiError)
        assert error.code == "inference_error"
        np.testing.assert_allclose(np.stack(outcomes), tower.run(good), atol=1e-5)  # type: ignore[arg-type]

    drive(scenario())


def test_failing_is_told_until_an_execution_succeeds(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(_poisoned(tower, _raise))
        [future] = batcher.submit([[POISON]], Timing())
        with pytest.raises(ApiError):
            await future
        assert batcher.failing
        [future] = batcher.submit(tower.ids("fine"), Timing())
        await future
        assert not batcher.failing

    drive(scenario())


def test_a_probe_does_not_wait_in_line(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower)
        first = await occupy(batcher, tower)
        futures = batcher.submit(tower.ids("waiting"), Timing())
        futures += batcher.submit(tower.ids("probe"), Timing(), urgent=True)
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert tower.batches[1] == tower.ids("probe")

    drive(scenario())


def test_closing_resolves_what_waits(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make(tower)
        first = await occupy(batcher, tower)
        [waiting] = batcher.submit(tower.ids("waiting"), Timing())
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        tower.gate.set()
        await closing
        await first
        with pytest.raises(ApiError, match="stopping"):
            await waiting
        with pytest.raises(ApiError, match="stopping"):
            batcher.submit(tower.ids("late"), Timing())

    drive(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_leaves_nobody_waiting(tower: GatedTower, make: Callable[..., Batcher]) -> None:
    def run(rows: Rows) -> NDArray[np.float32]:
        tower(rows)
        raise GeneratorExit("not an Exception: nothing catches it on the way")

    async def scenario() -> None:
        batcher = make(run)
        first = await occupy(batcher, tower)
        [waiting] = batcher.submit(tower.ids("waiting"), Timing())
        tower.gate.set()
        codes = [error.code for error in await asyncio.gather(first, waiting, return_exceptions=True)]  # type: ignore[union-attr]
        assert codes == ["inference_error", "unavailable"]
        batcher.close()
        assert not batcher.alive

    drive(scenario())
