"""Requests take turns in the batcher: one of a single item does not wait for all of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.inference.batcher import Batcher
from service.request_context import Timing
from tests.service.gated_tower import GatedTower, drive, occupy


def test_a_lone_item_does_not_wait_for_a_large_request(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=4)
        first = await occupy(batcher, tower)
        large, alone = tower.ids(*(f"large {number}" for number in range(512))), tower.ids("alone")
        futures = batcher.submit(large, Timing())
        [lone] = batcher.submit(alone, Timing())
        tower.gate.set()
        await asyncio.gather(first, lone)
        assert alone[0] in tower.batches[1]
        assert len(tower.batches[1]) == 4  # the rest of the batch is not wasted
        await asyncio.gather(*futures)

    drive(scenario())


def test_a_large_request_is_not_starved_by_small_ones(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    """Each time a batch begins, as many lone items come as it has places; the large request still gets its turns."""
    large_rows, small_rows = tower.ids(*(f"large {number}" for number in range(12))), tower.ids("small")

    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=4)
        first = await occupy(batcher, tower)
        large = batcher.submit(large_rows, Timing())
        small: list[asyncio.Future[NDArray[np.float32]]] = []
        tower.gate.set()
        while not all(future.done() for future in large):
            small += [future for _ in range(4) for future in batcher.submit(small_rows, Timing())]
            await asyncio.wait(small, return_when=asyncio.FIRST_COMPLETED)
            small = [future for future in small if not future.done()]
        await asyncio.gather(first, *small)

    drive(scenario())
    turns = [sum(row in large_rows for row in batch) for batch in tower.batches]
    assert sum(turns) == len(large_rows)


def test_requests_of_several_items_take_turns(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=2)
        first = await occupy(batcher, tower)
        rows = {name: tower.ids(*(f"{name} {number}" for number in range(3))) for name in ("cat", "dog")}
        futures = [future for ids in rows.values() for future in batcher.submit(ids, Timing())]
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert tower.batches[1:] == [[rows["cat"][number], rows["dog"][number]] for number in range(3)]

    drive(scenario())


def test_a_request_in_another_group_gets_its_turn(tower: GatedTower, make_batcher: Callable[..., Batcher]) -> None:
    """A long text behind hundreds of short ones: groups take turns as requests do."""

    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=4, group=lambda ids: len(ids) // 16)
        first = await occupy(batcher, tower)
        futures = batcher.submit(tower.ids(*(f"short {number}" for number in range(64))), Timing())
        long = tower.ids(" ".join(["word"] * 40))
        [alone] = batcher.submit(long, Timing())
        tower.gate.set()
        await asyncio.gather(first, alone)
        assert long in tower.batches[1:3]
        await asyncio.gather(*futures)

    drive(scenario())


def test_a_request_that_is_cancelled_leaves_its_turns_to_others(
    tower: GatedTower, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        batcher = make_batcher(tower, max_batch=2)
        first = await occupy(batcher, tower)
        for future in batcher.submit(tower.ids(*(f"gone {number}" for number in range(100))), Timing()):
            future.cancel()
        rows = tower.ids("a", "b", "c")
        futures = [future for ids in rows for future in batcher.submit([ids], Timing())]
        tower.gate.set()
        await asyncio.gather(first, *futures)
        assert tower.batches[1:] == [rows[:2], rows[2:]]

    drive(scenario())
