"""Comparing what was embedded, part by part: the parts are the whole, and who has gone is not computed for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from model.runtime.engine import Engine
from service.inference import comparison
from service.inference.comparison import Comparison
from service.inference.records import Compared
from service.request_context import Timing
from service.thread_pool import ThreadPool
from tests.service.llip import Llip


class CountingEngine(Engine):
    """Remembers the sizes of the parts."""

    parts: list[tuple[int, int]]

    def cosines(self, images: Any, texts: Any) -> Any:
        self.parts.append((len(images), len(texts)))
        return super().cosines(images, texts)


@pytest.fixture
def engine(llip: Llip) -> CountingEngine:
    engine = CountingEngine(llip.bundle, "cpu")
    engine.parts = []
    return engine


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    pool = ThreadPool(2)
    yield pool
    pool.shutdown()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch, llip: Llip) -> None:
    assert llip.bundle.mixture is not None
    monkeypatch.setattr(comparison, "WEIGHTS_AT_ONCE", 10 * llip.bundle.mixture.heads * llip.bundle.mixture.tokens)
    monkeypatch.setattr(comparison, "IMAGES_AT_ONCE", 4)


def sides(llip: Llip, images: int, texts: int) -> tuple[Compared, Compared]:
    tokens, vectors = llip.tokens(), llip.texts([f"thing number {index}" for index in range(texts)])
    rows = np.zeros((images + 1, vectors.shape[1]), np.float32)
    rows[0] = vectors[0]  # a text among the pictures
    return Compared(rows, {index + 1: tokens[index % 3] for index in range(images)}), Compared(vectors)


@pytest.mark.parametrize(("images", "texts", "parts"), [(11, 2, 3), (3, 23, 9), (5, 10, 5), (1, 0, 0)])
@pytest.mark.usefixtures("small_parts")
def test_parts_are_the_whole(
    llip: Llip, engine: CountingEngine, pool: ThreadPool, images: int, texts: int, parts: int
) -> None:
    first, second = sides(llip, images, max(texts, 1))
    second = Compared(second.vectors[:texts])
    compare = Comparison(llip.bundle, engine, pool)
    found = asyncio.run(compare.cosines(first, second, Timing()))
    expected = llip.cosines(np.stack(list(first.tokens.values())), second.vectors)
    np.testing.assert_allclose(found[1:], expected, atol=1e-5)
    np.testing.assert_allclose(found[0], first.vectors[0] @ second.vectors.T, atol=1e-6)
    assert len(engine.parts) == parts
    assert all(rows * columns <= 10 and rows <= 4 for rows, columns in engine.parts)
    np.testing.assert_allclose(asyncio.run(compare.cosines(second, first, Timing())), found.T, atol=1e-6)


@pytest.mark.usefixtures("small_parts")
def test_who_has_gone_is_not_computed_for(llip: Llip, engine: CountingEngine, pool: ThreadPool) -> None:
    first, second = sides(llip, 40, 100)

    async def scenario() -> None:
        task = asyncio.ensure_future(Comparison(llip.bundle, engine, pool).cosines(first, second, Timing()))
        while len(engine.parts) < 3:
            await asyncio.sleep(0)  # the loop turns while a part is computed
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        begun = len(engine.parts)
        await asyncio.sleep(0.2)
        assert len(engine.parts) == begun < 400

    asyncio.run(scenario())
