"""Class vectors are embedded once for each model, whoever asks and whoever leaves; and the best of many are found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from model.zeroshot import top_k_indices
from service.classification.class_vectors import ClassVectorCache, Prompts
from service.errors import ApiError
from service.inference.pipeline import Pipeline
from service.inference.records import EmbeddingResult
from service.inference.shared_resources import SharedResources
from service.metrics import Metrics
from service.request_context import RequestContext
from service.schema.items import TextItem
from service.settings import Settings

CATS = Prompts(["cat", "dog"], ["a {}", "{}"], without_label=False, truncate=False)
DIMENSIONS = 8


@dataclass
class FakeBundle:
    digest: str = "one"
    dimensions: int = DIMENSIONS


@dataclass
class FakeEngine:
    vectors_id: str = "cpu-1"


class FakePipeline:
    """Embeds when it is told to, and counts."""

    def __init__(self, digest: str = "one", vectors_id: str = "cpu-1") -> None:
        self.bundle, self.engine, self.own_labels = FakeBundle(digest), FakeEngine(vectors_id), None
        self.go = asyncio.Event()
        self.asked: list[list[str]] = []
        self.finished = self.users = 0
        self.error: ApiError | None = None

    @contextmanager
    def used(self) -> Iterator[Any]:
        self.users += 1
        yield
        self.users -= 1

    async def embed_prompts(
        self, prompts: Sequence[TextItem], call: RequestContext, *, truncate: bool | None
    ) -> EmbeddingResult:
        self.asked.append([prompt.text for prompt in prompts])
        assert self.users
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.finished += 1
        seed = sum(map(ord, self.bundle.digest))
        vectors = np.random.default_rng(seed).normal(size=(len(prompts), DIMENSIONS)).astype(np.float32)
        return EmbeddingResult(vectors, [False] * len(prompts), {}, {"texts": len(prompts), "tokens": 9, "images": 0})


def with_classes(test: Callable[[ClassVectorCache], Awaitable[None]], max_bytes: int | None = None) -> None:
    async def run() -> None:
        shared = SharedResources(Settings(), Metrics())
        try:
            await test(ClassVectorCache(shared, lambda pipeline: cast(FakePipeline, pipeline).used(), max_bytes))
        finally:
            await shared.aclose()

    asyncio.run(run())


def ask(
    classes: ClassVectorCache, pipeline: FakePipeline, prompts: Prompts = CATS, **options: Any
) -> asyncio.Task[Any]:
    return asyncio.ensure_future(classes.get(cast(Pipeline, pipeline), prompts, RequestContext("id"), **options))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_once_for_all_who_ask() -> None:
    async def test(classes: ClassVectorCache) -> None:
        pipeline = FakePipeline()
        asking = [ask(classes, pipeline) for _ in range(5)]
        await settle()
        pipeline.go.set()
        answers = await asyncio.gather(*asking, ask(classes, pipeline))
        assert pipeline.asked == [["a cat", "cat", "a dog", "dog"]]
        assert all(answer is answers[0] for answer in answers)
        assert await ask(classes, pipeline) is answers[0]
        assert answers[0].vectors.shape == (2, DIMENSIONS)
        assert answers[0].usage["texts"] == 4

    with_classes(test)


def test_the_first_may_leave() -> None:
    async def test(classes: ClassVectorCache) -> None:
        pipeline = FakePipeline()
        first, second = ask(classes, pipeline), ask(classes, pipeline)
        await settle()
        first.cancel()
        await settle()
        pipeline.go.set()
        assert (await second).vectors.shape == (2, DIMENSIONS)
        assert first.cancelled()
        assert len(pipeline.asked) == 1

    with_classes(test)


@pytest.mark.parametrize("finish", [False, True])
def test_when_all_have_left(finish: bool) -> None:
    async def test(classes: ClassVectorCache) -> None:
        pipeline = FakePipeline()
        asking = [ask(classes, pipeline, finish=finish) for _ in range(2)]
        await settle()
        for task in asking:
            task.cancel()
        await settle()
        pipeline.go.set()
        await ask(classes, pipeline)
        assert (len(pipeline.asked), pipeline.finished) == ((1, 1) if finish else (2, 1))

    with_classes(test)


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    async def test(classes: ClassVectorCache) -> None:
        pipeline = FakePipeline()
        pipeline.error = ApiError("text_too_long", "Too long.", "labels.1")
        pipeline.go.set()
        told = await asyncio.gather(*(ask(classes, pipeline, finish=True) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in told] == ["Too long."] * 3
        assert len({id(error) for error in told}) == 3
        pipeline.error = None
        await ask(classes, pipeline)

    with_classes(test)


def test_nothing_is_shared_between_models_or_prompts() -> None:
    async def test(classes: ClassVectorCache) -> None:
        one, two = FakePipeline("one"), FakePipeline("two")
        for pipeline in (one, two):
            pipeline.go.set()
        a, b = await asyncio.gather(ask(classes, one), ask(classes, two))
        assert not np.array_equal(a.vectors, b.vectors)
        different = [
            Prompts(["cat"], ["a {}", "{}"], False, False),
            Prompts(["cat", "dog"], ["{}", "a {}"], False, False),
            Prompts(["cat", "dog"], ["a {}", "{}"], False, True),
            Prompts(["cat", 'dog","'], ["a {}", "{}"], False, False),
            Prompts(["cat", "dog"], ["a {}", "{}"], True, False),
        ]
        for prompts in different:
            await ask(classes, one, prompts)
        assert len(one.asked) == 1 + len(different)
        assert one.asked[-1] == ["a cat", "cat", "a dog", "dog", "a", ""]
        elsewhere = FakePipeline("one", "cuda-1")  # as where an engine that failed was opened again, on the CPU
        elsewhere.go.set()
        await ask(classes, elsewhere)
        assert len(elsewhere.asked) == 1

    with_classes(test)


def test_memory_is_bounded() -> None:
    async def test(classes: ClassVectorCache) -> None:
        pipeline = FakePipeline()
        pipeline.go.set()
        labels = [str(number) for number in range(600)]  # 19,200 bytes of vectors: room for four

        async def embed(template: str) -> int:
            await ask(classes, pipeline, Prompts(labels, [template], False, False))
            return len(pipeline.asked)

        assert [await embed(f"{number} {{}}") for number in range(6)] == [1, 2, 3, 4, 5, 6]
        assert [await embed(f"{number} {{}}") for number in (5, 4, 3, 2)] == [6] * 4
        assert await embed("0 {}") == 7
        too_large = Prompts([str(number) for number in range(4000)], ["{}"], False, False)
        assert len((await ask(classes, pipeline, too_large)).vectors) == 4000
        assert await embed("2 {}") == 8

    with_classes(test, max_bytes=100_000)


@pytest.mark.parametrize("levels", [2, 50, 10**6])
def test_the_best_are_those_of_sorting(levels: int) -> None:
    scores = (np.random.default_rng(0).integers(levels, size=(3, 1000)) / levels).astype(np.float32)
    everything = np.argsort(-scores, axis=1, kind="stable")
    for top_k in (1, 2, 10, 49, 51, 999, 1000, 2000, None):
        assert (top_k_indices(scores, top_k) == everything[:, :top_k]).all()
