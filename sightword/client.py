"""The client of a service, for programs without an event loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar, overload

import httpx

from sightword import protocol
from sightword.connection import Connection
from sightword.errors import LabelSetNotFoundError, SightwordError
from sightword.items import Item, Items
from sightword.mixed_plan import MixedPlan, comparison_plan
from sightword.plans import ClassifyPlan, EmbedPlan, OnError, Output, PairPlan, Part, Plan, classify_options, several
from sightword.progress import bar
from sightword.protocol import Answer, Request
from sightword.results import Classification, Embedded, Info, LabelSet, ModelInfo, Ranked, Similarity, Vectors
from sightword.retries import Attempts
from sightword.scores import ranking_of, similarity_of

P = TypeVar("P", bound=Plan[Any])


class Client:
    """Calls a service. Thread-safe; long lists are sent in several requests, side by side, and answered in order."""

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
        """`url` and `api_key` are by default SIGHTWORD_URL (or http://127.0.0.1:8000) and SIGHTWORD_API_KEY.

        `timeout_s` is what each request may take in all, with everything that is sent again. No more than `concurrency`
        requests are under way, of at most so many items and about so many bytes; the service's own limits hold anyway.
        """
        self._connection = Connection.of(
            url, api_key, model, timeout_s, concurrency, items_per_request, bytes_per_request
        )
        self._http = httpx.Client(base_url=self._connection.url, headers=self._connection.headers())
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="sightword")
        self._info: Info | None = None
        self._known = False
        self.label_sets = LabelSets(self)

    def __repr__(self) -> str:
        return f"Client({self._connection.address!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; the client cannot be used any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    @overload
    def embed(
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
    def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: Literal["item"],
        progress: bool = False,
    ) -> Embedded: ...

    def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: OnError = "fail",
        progress: bool = False,
    ) -> Vectors | Embedded:
        """Texts and pictures, mixed freely -> float32 [items, dimensions], of unit length.

        With `truncate`, texts longer than the context are cut instead of refused; with `dimensions`, vectors are cut,
        and normalised again. With `on_error="item"` a bad item does not end the call: see `Embedded`. With
        `output="tokens"` it is [items, tokens, dimensions]: all vectors that a mixture model (Llip) mixes of a picture
        for each text, and one of a text or by another model. Raises SightwordError.
        """
        options = self._options(dimensions=dimensions, truncate=truncate, output=several(output))
        plan = EmbedPlan(items, options, on_error)
        self._run(plan, progress)
        wide = dimensions or self._model(plan).dimensions
        return plan.result(wide) if on_error == "fail" else plan.embedded(wide)

    def embed_iter(
        self, items: Iterable[Item], *, dimensions: int | None = None, truncate: bool | None = None
    ) -> Iterator[Vectors]:
        """A vector [dimensions] for each item of an iterator that may be endless, of which few are in memory."""
        plan = EmbedPlan(items, self._options(dimensions=dimensions, truncate=truncate))
        for part, answer in self._side_by_side(plan.parts(self._connection.limits(self._known_info()))):
            plan.add(part, answer)
            yield from plan.take()

    def classify(
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
        """Which of the labels, or of a stored label set, fits each item, best first.

        `threshold` drops lower scores; with `multi_label` each label is judged alone. Raises SightwordError.
        """
        options = classify_options(
            labels, label_set, templates, template_set=template_set, top_k=top_k, multi_label=multi_label,
            threshold=threshold, **self._options(truncate=truncate),
        )  # fmt: skip
        return self._run(ClassifyPlan(items, options, on_error), progress).result(0)

    def similarity(
        self, queries: Items, candidates: Items, *, truncate: bool | None = None, progress: bool = False
    ) -> Similarity:
        """Cosines and probabilities of each query and each candidate. Raises SightwordError."""
        plan = self._compare(queries, candidates, ("queries", "candidates"), truncate, progress)
        model = self._model(plan)
        return similarity_of(plan.cosines(model.dimensions), model)

    def rank(
        self,
        query: Item,
        candidates: Items,
        *,
        top_n: int | None = None,
        truncate: bool | None = None,
        progress: bool = False,
    ) -> list[Ranked]:
        """The candidates by their cosine to the query, best first. Raises SightwordError."""
        plan = self._compare([query], candidates, ("query", "candidates"), truncate, progress)
        model = self._model(plan)
        return ranking_of(plan.cosines(model.dimensions)[0], model, top_n)

    def info(self) -> Info:
        """What is served, and within which limits. Raises SightwordError."""
        self._info = protocol.read_info(self.call(protocol.INFO))
        return self._info

    def call(self, request: Request) -> Answer:
        """Send one request, again where that helps. Raises SightwordError."""
        return protocol.check(request, self._send(request, threading.Event()))

    def _options(self, **options: Any) -> dict[str, Any]:
        return {"model": self._connection.model, **options}

    def _known_info(self) -> Info:
        return self._info or self.info()

    def _model(self, plan: Plan[Any]) -> ModelInfo:
        """Of which the vectors are: after a reload, another than before."""
        model = self._known_info().model(self._connection.model)
        if plan.digest is not None and model.digest != plan.digest:
            model = self.info().model(self._connection.model)
        return model

    def _compare(
        self, first: Items, second: Items, names: tuple[str, str], truncate: bool | None, progress: bool
    ) -> PairPlan | MixedPlan:
        model = self._known_info().model(self._connection.model)
        plan = comparison_plan(first, second, names, self._options(truncate=truncate), model)
        return self._run(plan, progress)

    def _run(self, plan: P, progress: bool) -> P:
        limits = self._connection.limits(self._known_info())
        with bar(progress, plan.total, plan.path) as advance:
            for part, answer in self._side_by_side(plan.parts(limits)):
                plan.add(part, answer)
                advance(len(part))
        return plan

    def _side_by_side(self, parts: Iterator[Part]) -> Iterator[tuple[Part, Answer | None]]:
        """Each part with its answer, in order; so many are under way as the client may have."""
        window: deque[tuple[Part, Future[Answer] | None]] = deque()
        stop = threading.Event()
        try:
            for part in parts:
                window.append((part, self._pool.submit(self._send, part.request, stop) if part.request else None))
                if len(window) >= self._connection.concurrency:
                    yield _answered(*window.popleft())
            while window:
                yield _answered(*window.popleft())
        finally:
            stop.set()
            for _, future in window:
                if future is not None:
                    future.cancel()

    def _send(self, request: Request, stop: threading.Event) -> Answer:
        """The last answer. Raises SightwordError where there is none; `stop` ends the waits."""
        attempts = Attempts(self._connection.address, self._connection.timeout_s, self._known)
        while True:
            try:
                answer = self._exchange(request, attempts.remaining_s())
                self._known = True
                wait_s = attempts.after_answer(answer)
            except httpx.HTTPError as error:
                wait_s = attempts.after_failure(error)
            if wait_s is None:
                return answer
            if stop.wait(wait_s):
                raise SightwordError("This request was given up.")

    def _exchange(self, request: Request, remaining_s: float) -> Answer:
        timeout = self._connection.timeout(remaining_s)
        assert timeout.read is not None
        began = time.monotonic()
        content = []
        with self._http.stream(
            request.method, request.path, content=request.body or None, timeout=timeout,
            headers=protocol.headers(request, remaining_s),
        ) as response:  # fmt: skip
            for piece in response.iter_bytes():
                content.append(piece)
                if time.monotonic() - began > timeout.read:  # each piece alone may be in time
                    raise httpx.ReadTimeout("")
        return Answer(response.status_code, response.headers, b"".join(content), time.monotonic() - began)


def _answered(part: Part, future: Future[Answer] | None) -> tuple[Part, Answer | None]:
    if future is None or part.request is None:
        return part, None
    return part, protocol.check(part.request, future.result())


class LabelSets:
    """The stored label sets of a service."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(
        self,
        name: str,
        labels: Iterable[str],
        *,
        templates: Iterable[str] | None = None,
        template_set: str | None = None,
        truncate: bool | None = None,
    ) -> LabelSet:
        """Store one, in place of what had this name. Raises SightwordError."""
        options = protocol.label_set_options(labels, templates, template_set, truncate)
        return protocol.read_label_set(self._client.call(protocol.label_set_request("PUT", name, options)))

    def get(self, name: str) -> LabelSet:
        """One of them. Raises LabelSetNotFoundError."""
        return protocol.read_label_set(self._client.call(protocol.label_set_request("GET", name)))

    def delete(self, name: str) -> bool:
        """Delete one, and say whether it was there; False also where the answer to a first attempt was lost."""
        try:
            self._client.call(protocol.label_set_request("DELETE", name))
        except LabelSetNotFoundError:
            return False
        return True

    def list(self) -> list[str]:
        """Their names. Raises SightwordError."""
        return protocol.read_label_sets(self._client.call(protocol.LABEL_SETS))
