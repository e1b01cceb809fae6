"""Workers: batches of one tower that run side by side, and how they share what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from service.errors import ApiError
from service.inference.batcher import Batcher
from service.request_context import Timing
from tests.service.gated_tower import GatedTower, Rows, drive, occupy


async def begun(tower: GatedTower, batches: int) -> None:
    while len(tower.batches) < batches:
        await asyncio.sleep(0.001)


def test_another_worker_begins_beside_a_batch_once_a_third_of_the_largest_waits(
    tower: GatedTower, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=6, workers=2)
        futures = [await occupy(batcher, tower)]
        since = batcher.running_since
        futures += batcher.submit(tower.ids("a"), Timing())
        await asyncio.sleep(0.05)
        assert tower.sizes() == [1]
        futures += batcher.submit(tower.ids("b"), Timing())
        await begun(tower, 2)
        assert batcher.running_since == since  # of the one that has lasted longest
        tower.gate.set()
        await asyncio.gather(*futures)
        assert tower.sizes() == [1, 2]

    drive(scenario())


def test_workers_share_a_large_request(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=32, workers=2)
        futures = batcher.submit(tower.ids(*(f"text {n}" for n in range(32))), Timing())
        await begun(tower, 2)
        tower.gate.set()
        await asyncio.gather(*futures)
        assert tower.sizes() == [16, 16]

    drive(scenario())


def test_a_probe_takes_a_free_worker_at_once(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=32, workers=2)
        futures = [await occupy(batcher, tower)]
        futures += batcher.submit(tower.ids("probe"), Timing(), urgent=True)
        await begun(tower, 2)
        tower.gate.set()
        await asyncio.gather(*futures)

    drive(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_one_worker_ends_all(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    fatal = tower.ids("fatal")

    def run(rows: Rows) -> object:
        if rows == fatal:
            raise GeneratorExit("not an Exception: nothing catches it on the way")
        return tower(rows)

    async def scenario() -> None:
        batcher = make_batcher(run, max_batch=3, workers=2)
        first = await occupy(batcher, tower)
        [ends] = batcher.submit(fatal, Timing())
        with pytest.raises(ApiError, match="failed"):
            await ends
        while batcher.alive:
            await asyncio.sleep(0.001)
        with pytest.raises(ApiError, match="stopping"):
            batcher.submit(tower.ids("late"), Timing())
        tower.gate.set()
        await first

    drive(scenario())


def test_closing_ends_all_workers(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        tower.gate.set()
        batcher = make_batcher(tower, workers=3)
        await asyncio.gather(*batcher.submit(tower.ids(*"abcdef"), Timing()))
        await asyncio.to_thread(batcher.close)
        assert not batcher.alive
        assert batcher.running_since is None

    drive(scenario())
