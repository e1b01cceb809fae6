"""The client of a service, for programs with an event loop of asyncio."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Literal, TypeVar, overload

import httpx

from sightword import protocol
from sightword.connection import Connection
from sightword.errors import LabelSetNotFoundError
from sightword.items import Item, Items
from sightword.mixed_plan import MixedPlan, comparison_plan
from sightword.plans import ClassifyPlan, EmbedPlan, OnError, Output, PairPlan, Part, Plan, classify_options, several
from sightword.progress import bar
from sightword.protocol import Answer, Request
from sightword.results import Classification, Embedded, Info, LabelSet, ModelInfo, Ranked, Similarity, Vectors
from sightword.retries import Attempts
from sightword.scores import ranking_of, similarity_of

P = TypeVar("P", bound=Plan[Any])


class AsyncClient:
    """As `Client`, with calls to be awaited. Files are read, and iterators of items run, in threads."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 60,
        *,
        concurrency: int = 4,
        items_per_request: int | None = None,
        bytes_per_request: int | None = None,
    ) -> None:
        """As `Client`."""
        self._connection = Connection.of(
            url, api_key, model, timeout_s, concurrency, items_per_request, bytes_per_request
        )
        self._http = httpx.AsyncClient(base_url=self._connection.url, headers=self._connection.headers())
        self._info: Info | None = None
        self._known = False
        self.label_sets = AsyncLabelSets(self)

    def __repr__(self) -> str:
        return f"AsyncClient({self._connection.address!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections; the client cannot be used any more."""
        await self._http.aclose()

    @overload
    async def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: Literal["fail"] = "fail",
        progress: bool = False,
    ) -> Vectors: ...

    @overload
    async def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: Literal["item"],
        progress: bool = False,
    ) -> Embedded: ...

    async def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: OnError = "fail",
        progress: bool = False,
    ) -> Vectors | Embedded:
        """As `Client.embed`."""
        options = self._options(dimensions=dimensions, truncate=truncate, output=several(output))
        plan = EmbedPlan(items, options, on_error)
        await self._run(plan, progress)
        wide = dimensions or (await self._model(plan)).dimensions
        return plan.result(wide) if on_error == "fail" else plan.embedded(wide)

    async def embed_iter(
        self, items: Iterable[Item], *, dimensions: int | None = None, truncate: bool | None = None
    ) -> AsyncIterator[Vectors]:
        """As `Client.embed_iter`."""
        plan = EmbedPlan(items, self._options(dimensions=dimensions, truncate=truncate))
        limits = self._connection.limits(await self._known_info())
        async with aclosing(self._side_by_side(plan.parts(limits))) as answered:
            async for part, answer in answered:
                plan.add(part, answer)
                for vector in plan.take():
                    yield vector

    async def classify(
        self,
        items: Items,
        labels: Iterable[str] | None = None,
        *,
        label_set: str | None = None,
        templates: Iterable[str] | None = None,
        template_set: str | None = None,
        top_k: int | None = None,
        multi_label: bool = False,
        threshold: float | None = None,
        truncate: bool | None = None,
        on_error: OnError = "fail",
        progress: bool = False,
    ) -> list[Classification]:
        """As `Client.classify`."""
        options = classify_options(
            labels, label_set, templates, template_set=template_set, top_k=top_k, multi_label=multi_label,
            threshold=threshold, **self._options(truncate=truncate),
        )  # fmt: skip
        return (await self._run(ClassifyPlan(items, options, on_error), progress)).result(0)

    async def similarity(
        self, queries: Items, candidates: Items, *, truncate: bool | None = None, progress: bool = False
    ) -> Similarity:
        """As `Client.similarity`."""
        plan = await self._compare(queries, candidates, ("queries", "candidates"), truncate, progress)
        model = await self._model(plan)
        return similarity_of(plan.cosines(model.dimensions), model)

    async def rank(
        self,
        query: Item,
        candidates: Items,
        *,
        top_n: int | None = None,
        truncate: bool | None = None,
        progress: bool = False,
    ) -> list[Ranked]:
        """As `Client.rank`."""
        plan = await self._compare([query], candidates, ("query", "candidates"), truncate, progress)
        model = await self._model(plan)
        return ranking_of(plan.cosines(model.dimensions)[0], model, top_n)

    async def info(self) -> Info:
        """As `Client.info`."""
        self._info = protocol.read_info(await self.call(protocol.INFO))
        return self._info

    async def call(self, request: Request) -> Answer:
        """As `Client.call`."""
        return protocol.check(request, await self._send(request))

    def _options(self, **options: Any) -> dict[str, Any]:
        return {"model": self._connection.model, **options}

    async def _known_info(self) -> Info:
        return self._info or await self.info()

    async def _model(self, plan: Plan[Any]) -> ModelInfo:
        model = (await self._known_info()).model(self._connection.model)
        if plan.digest is not None and model.digest != plan.digest:
            model = (await self.info()).model(self._connection.model)
        return model

    async def _compare(
        self, first: Items, second: Items, names: tuple[str, str], truncate: bool | None, progress: bool
    ) -> PairPlan | MixedPlan:
        model = (await self._known_info()).model(self._connection.model)
        plan = comparison_plan(first, second, names, self._options(truncate=truncate), model)
        return await self._run(plan, progress)

    async def _run(self, plan: P, progress: bool) -> P:
        limits = self._connection.limits(await self._known_info())
        with bar(progress, plan.total, plan.path) as advance:
            async with aclosing(self._side_by_side(plan.parts(limits))) as answered:
                async for part, answer in answered:
                    plan.add(part, answer)
                    advance(len(part))
        return plan

    async def _side_by_side(self, parts: Iterator[Part]) -> AsyncGenerator[tuple[Part, Answer | None], None]:
        """Each part with its answer, in order; so many are under way as the client may have."""
        window: deque[tuple[Part, asyncio.Task[Answer] | None]] = deque()
        try:
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                window.append((part, asyncio.create_task(self._send(part.request)) if part.request else None))
                if len(window) >= self._connection.concurrency:
                    yield await _answered(*window.popleft())
            while window:
                yield await _answered(*window.popleft())
        finally:
            tasks = [task for _, task in window if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, request: Request) -> Answer:
        attempts = Attempts(self._connection.address, self._connection.timeout_s, self._known)
        while True:
            try:
                answer = await self._exchange(request, attempts.remaining_s())
                self._known = True
                wait_s = attempts.after_answer(answer)
            except httpx.HTTPError as error:
                wait_s = attempts.after_failure(error)
            if wait_s is None:
                return answer
            await asyncio.sleep(wait_s)

    async def _exchange(self, request: Request, remaining_s: float) -> Answer:
        timeout, began = self._connection.timeout(remaining_s), time.monotonic()
        try:
            async with asyncio.timeout(timeout.read):  # each piece alone may be in time
                response = await self._http.request(
                    request.method, request.path, content=request.body or None, timeout=timeout,
                    headers=protocol.headers(request, remaining_s),
                )  # fmt: skip
        except TimeoutError:
            raise httpx.ReadTimeout("") from None
        return Answer(response.status_code, response.headers, response.content, time.monotonic() - began)


async def _answered(part: Part, task: asyncio.Task[Answer] | None) -> tuple[Part, Answer | None]:
    if task is None or part.request is None:
        return part, None
    return part, protocol.check(part.request, await task)


class AsyncLabelSets:
    """As `LabelSets`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def put(
        self,
        name: str,
        labels: Iterable[str],
        *,
        templates: Iterable[str] | None = None,
        template_set: str | None = None,
        truncate: bool | None = None,
    ) -> LabelSet:
        """As `LabelSets.put`."""
        options = protocol.label_set_options(labels, templates, template_set, truncate)
        return protocol.read_label_set(await self._client.call(protocol.label_set_request("PUT", name, options)))

    async def get(self, name: str) -> LabelSet:
        """As `LabelSets.get`."""
        return protocol.read_label_set(await self._client.call(protocol.label_set_request("GET", name)))

    async def delete(self, name: str) -> bool:
        """As `LabelSets.delete`."""
        try:
            await self._client.call(protocol.label_set_request("DELETE", name))
        except LabelSetNotFoundError:
            return False
        return True

    async def list(self) -> list[str]:
        """As `LabelSets.list`."""
        return protocol.read_label_sets(await self._client.call(protocol.LABEL_SETS))
