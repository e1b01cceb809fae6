"""The client for an event loop: what the other one gives, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sightword
from benchmarks.service_process import Running
from sightword.async_client import AsyncLabelSets
from sightword.client import LabelSets
from sightword.errors import DeadlineExceededError, InvalidImageError, LabelSetNotFoundError
from sightword.local.embedder import Local
from sightword.local.label_sets import LocalLabelSets
from tests.client.bad_line import BadLine, cut, dribble, hang_up, refusal
from tests.service import pictures

PHOTOS = [pictures.read("cat"), pictures.read("coffee")]


def test_all_calls_give_the_same(service: Running, client: sightword.Client) -> None:
    async def compare() -> None:
        async with sightword.AsyncClient(service.url, timeout_s=200) as other:
            np.testing.assert_allclose(await other.embed(["a", *PHOTOS]), client.embed(["a", *PHOTOS]), atol=1e-6)
            embedded = await other.embed(["a", b"x", Path("/nowhere")], on_error="item")
            assert list(embedded.errors) == [1, 2]
            [entry] = await other.classify(PHOTOS[0], ["cat", "dog"])
            assert entry.label == "cat"
            np.testing.assert_allclose(
                (await other.similarity(PHOTOS, ["cat"])).cosine, client.similarity(PHOTOS, ["cat"]).cosine, atol=1e-6
            )
            ranked = [each.index for each in await other.rank("coffee", PHOTOS)]
            assert ranked == [each.index for each in client.rank("coffee", PHOTOS)]
            assert (await other.info()).models == client.info().models
            await other.label_sets.put("async-pets", ["cat", "dog"])
            assert (await other.label_sets.get("async-pets")).labels == ["cat", "dog"]
            assert "async-pets" in await other.label_sets.list()
            assert await other.label_sets.delete("async-pets") is True
            assert await other.label_sets.delete("async-pets") is False
            with pytest.raises(LabelSetNotFoundError):
                await other.label_sets.get("async-pets")
            with pytest.raises(InvalidImageError, match=r"inputs\.70\.image"):
                await other.embed(["a"] * 70 + [b"x"])

    asyncio.run(compare())


@pytest.mark.parametrize(
    ("one", "other"),
    [(sightword.Client, sightword.AsyncClient), (LabelSets, AsyncLabelSets), (LabelSets, LocalLabelSets)],
)
def test_all_have_the_same_calls_with_the_same_arguments(one: type, other: type) -> None:
    names = [name for name, value in vars(one).items() if not name.startswith("_") and callable(value)]
    assert names
    for name in names:
        mine, others = (inspect.signature(getattr(kind, name)) for kind in (one, other))
        assert list(mine.parameters.values()) == list(others.parameters.values()), name


@pytest.mark.parametrize("name", ["embed", "embed_iter", "classify", "similarity", "rank", "info"])
def test_a_model_without_a_service_has_them_too(name: str) -> None:
    mine, others = (inspect.signature(getattr(kind, name)) for kind in (sightword.Client, Local))
    assert list(mine.parameters.values()) == list(others.parameters.values())


def test_a_bad_line_is_survived(line: BadLine, local: Local) -> None:
    line.script.extend([None, hang_up, refusal(429, "overloaded", retry_after="0"), cut])
    texts = [f"async {index}" for index in range(100)]

    async def embed() -> object:
        async with sightword.AsyncClient(line.url, items_per_request=16) as client:
            return await client.embed(texts)

    np.testing.assert_allclose(asyncio.run(embed()), local.embed(texts), atol=1e-6)  # type: ignore[arg-type]


def test_the_time_is_for_all_of_it(line: BadLine) -> None:
    line.script.append(dribble)

    async def embed() -> None:
        async with sightword.AsyncClient(line.url, timeout_s=1) as client:
            await client.info()
            await client.embed([f"late {index}" for index in range(10)])

    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        asyncio.run(embed())
    assert time.monotonic() - began < 6


def test_the_loop_goes_on_while_items_are_read(service: Running) -> None:
    async def embed() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        def slow() -> Iterator[str]:
            for index in range(5):
                time.sleep(0.1)
                yield f"slow {index}"

        counting = asyncio.create_task(count())
        async with sightword.AsyncClient(service.url) as client:
            assert len(await client.embed(slow())) == 5
        counting.cancel()
        return turns

    assert asyncio.run(embed()) > 20


def test_an_endless_iterator_may_be_left(line: BadLine) -> None:
    async def embed() -> None:
        async with sightword.AsyncClient(line.url, items_per_request=8, concurrency=2) as client:
            rows = []
            vectors = client.embed_iter(f"endless {index}" for index in iter(int, 1))
            async for vector in vectors:
                rows.append(vector)
                if len(rows) == 30:
                    break
            await vectors.aclose()  # type: ignore[attr-defined]
            assert len({row.tobytes() for row in rows}) == 1

    asyncio.run(embed())
    assert len(line.calls) <= 7


def test_a_call_that_is_cancelled_leaves_no_task(line: BadLine) -> None:
    line.script.extend([refusal(503, "unavailable", retry_after="30")] * 4)

    async def embed() -> int:
        async with sightword.AsyncClient(line.url, items_per_request=4) as client:
            await client.info()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.embed([f"given up {index}" for index in range(40)]), 1)
            return len(asyncio.all_tasks())

    assert asyncio.run(embed()) == 1
