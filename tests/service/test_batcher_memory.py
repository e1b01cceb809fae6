"""The batcher where memory runs out: batches become smaller until they fit, and stay so; and what a bad item costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import ApiError
from service.inference.batcher import Batcher
from service.request_context import Timing
from tests.service.gated_tower import drive
from tests.service.simulated_gpu import LOST, NO_MEMORY

POISON = -1


class SmallTower:
    """Gives a number back as its vector [1]; has memory for `room` items, and fails where POISON is among them."""

    def __init__(self, room: int, no_memory: str = "arena") -> None:
        self.room, self.error = room, NO_MEMORY[no_memory]
        self.sizes: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        self.sizes.append(len(numbers))
        if len(numbers) > self.room:
            raise self.error
        if POISON in numbers:
            raise LOST
        return np.array(numbers, np.float32)[:, None]


async def outcomes(batcher: Batcher, numbers: Sequence[int]) -> list[float | str]:
    """The number of each vector, or the message of its error."""
    answers = await asyncio.gather(*batcher.submit(numbers, Timing()), return_exceptions=True)
    return [answer.message if isinstance(answer, ApiError) else float(answer[0]) for answer in answers]  # type: ignore[index]


@pytest.mark.parametrize("no_memory", NO_MEMORY)
def test_a_batch_without_memory_is_halved_until_it_fits(make_batcher: Callable[..., Batcher], no_memory: str) -> None:
    async def scenario() -> None:
        tower, reduced = SmallTower(40, no_memory), []
        batcher = make_batcher(tower, max_batch=128, on_halving=reduced.append)
        assert await outcomes(batcher, range(128)) == list(range(128))
        assert tower.sizes == [128, 64, 32, 32, 32, 32]
        assert (batcher.max_batch, reduced, batcher.failing) == (32, ["text"] * 2, False)

    drive(scenario())


def test_what_fits_is_remembered(make_batcher: Callable[..., Batcher], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        tower = SmallTower(40)
        batcher = make_batcher(tower, max_batch=100)
        await outcomes(batcher, range(100))
        del tower.sizes[:]
        assert await outcomes(batcher, range(100)) == list(range(100))
        assert tower.sizes == [32, 32, 32, 4]

    with caplog.at_level(logging.WARNING):
        drive(scenario())
    assert "no memory for batches of 100 items: from now on they are of at most 64" in caplog.text
    assert "no memory for batches of 64 items: from now on they are of at most 32" in caplog.text


def test_an_item_that_does_not_fit_fails_alone_and_says_so(make_batcher: Callable[..., Batcher]) -> None:
    class Picky(SmallTower):
        def __call__(self, numbers: Sequence[int]) -> NDArray[np.float32]:
            self.room = 0 if 5 in numbers else 128
            return super().__call__(numbers)

    async def scenario() -> None:
        batcher = make_batcher(Picky(128), max_batch=8)
        answers = await outcomes(batcher, range(8))
        assert "no memory left for this item" in str(answers.pop(5))
        assert answers == [0, 1, 2, 3, 4, 6, 7]
        assert batcher.max_batch == 8  # its size was not what was wrong

    drive(scenario())


def test_a_poisoned_item_costs_few_runs(make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        tower = SmallTower(128)
        batcher = make_batcher(tower, max_batch=128)
        answers = await outcomes(batcher, [*range(77), POISON, *range(78, 128)])
        assert "failed on this item" in str(answers.pop(77))
        assert answers == [*range(77), *range(78, 128)]
        assert len(tower.sizes) == 15  # two of each size from 64 to 1, after the first: one by one, 129
        assert batcher.max_batch == 128

    drive(scenario())


def test_a_poisoned_item_in_a_batch_without_memory(make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(SmallTower(20), max_batch=64)
        answers = await outcomes(batcher, [*range(63), POISON])
        assert "failed on this item" in str(answers.pop())
        assert answers == list(range(63))
        assert batcher.max_batch == 16

    drive(scenario())


def test_many_workers_without_memory_answer_everything(make_batcher: Callable[..., Batcher]) -> None:
    async def scenario() -> None:
        batcher = make_batcher(SmallTower(3), max_batch=32, workers=2)
        answers = await asyncio.gather(*(outcomes(batcher, range(start, start + 50)) for start in range(0, 500, 50)))
        assert [answer for part in answers for answer in part] == list(range(500))
        assert batcher.max_batch == 2

    drive(scenario())
