"""The text tower of the real engine behind a gate, for tests of the batcher."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine
from service.inference.batcher import Batcher
from service.request_context import Timing

Rows = Sequence[list[int]]
WAIT_S = 60.0


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
