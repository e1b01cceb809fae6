"""One queue and one thread per tower: while a batch runs, the next one fills.

There is no timer. The thread takes whatever waits as soon as the engine is free, so a lone request never waits and
a busy service fills its batches by itself. Five promises hold here, each with a test:

- every future is resolved, whatever fails;
- one poisoned item fails alone: when a batch raises, its items are run again one by one;
- an entry whose request was cancelled is not run;
- requests take turns: one of a single item does not wait for all the items of a large one before it;
- the engine is never idle while something waits: the thread takes its next batch without asking the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ApiError
from service.timing import Timing

Vector = NDArray[np.float32]
Run = Callable[[Sequence[Any]], NDArray[np.float32]]
log = logging.getLogger(__name__)
URGENT = -1  # a group of its own, and the one that has waited longest


@dataclass(slots=True, eq=False)
class Entry:
    """One item that waits, and where its vector goes."""

    payload: Any
    future: asyncio.Future[Vector]
    timing: Timing
    enqueued: float


@dataclass(slots=True)
class _Flow:
    """What waits of one request. `since` is when it came, or when its last turn was."""

    since: float
    entries: deque[Entry] = field(default_factory=deque)


class _Ring:
    """The entries of one group. Each turn takes one entry of the request at the front, which then goes to the back."""

    def __init__(self) -> None:
        self._flows: OrderedDict[int, _Flow] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._flows)

    @property
    def since(self) -> float:
        """When the request whose turn it is had its last one."""
        return next(iter(self._flows.values())).since

    def add(self, entry: Entry) -> None:
        request = id(entry.timing)  # one object a request, alive as long as its entries
        if (flow := self._flows.get(request)) is None:
            flow = self._flows[request] = _Flow(entry.enqueued)
        flow.entries.append(entry)

    def take(self, most: int) -> list[Entry]:
        """Up to `most` entries whose requests still want them."""
        now = time.perf_counter()
        taken: list[Entry] = []
        while self._flows and len(taken) < most:
            request, flow = self._flows.popitem(last=False)
            entry = flow.entries.popleft()
            if flow.entries:
                flow.since = now
                self._flows[request] = flow
            if not entry.future.cancelled():
                taken.append(entry)
        return taken

    def empty(self) -> list[Entry]:
        """All that is left."""
        left = [entry for flow in self._flows.values() for entry in flow.entries]
        self._flows.clear()
        return left


class Batcher:
    """Collects payloads of one tower and runs them together.

    `run` takes up to `max_batch` payloads and gives vectors [batch, dim]; it is only ever called from this thread.
    Only payloads of the same `group` share a batch: texts are grouped by length, so that a long one does not make
    short ones pay for its padding. The group in which a request has waited longest for its turn goes first.
    """

    def __init__(
        self,
        tower: str,
        run: Run,
        max_batch: int,
        group: Callable[[Any], int] = lambda payload: 0,
        on_batch: Callable[[str, int], None] = lambda tower, items: None,
    ) -> None:
        self.tower, self.max_batch = tower, max_batch
        self.failing = False  # the last execution raised; readiness then asks for a probe
        self.running_since: float | None = None  # of time.perf_counter
        self._run, self._group, self._on_batch = run, group, on_batch
        self._waiting: dict[int, _Ring] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"{tower}-tower", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """The thread runs; without it nothing is ever answered."""
        return self._thread.is_alive()

    def submit(self, payloads: Sequence[Any], timing: Timing, urgent: bool = False) -> list[asyncio.Future[Vector]]:
        """Queue the payloads; each future gives a vector [dim] or raises ApiError. Called on the event loop.

        `urgent` is for health probes: a long queue must not make them late.
        """
        loop = asyncio.get_running_loop()
        enqueued = 0.0 if urgent else time.perf_counter()
        entries = [Entry(payload, loop.create_future(), timing, enqueued) for payload in payloads]
        with self._changed:
            if self._closed:
                raise ApiError("unavailable", "The service is stopping; send the request again.")
            for entry in entries:
                group = URGENT if urgent else self._group(entry.payload)
                self._waiting.setdefault(group, _Ring()).add(entry)
        # Not at once but in the loop's next turn: requests that came in together then share the batch.
        loop.call_soon(self._wake)
        return [entry.future for entry in entries]

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Finish the running batch and resolve what still waits with `unavailable`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        batch: list[Entry] | None = []
        try:
            while (batch := self._take()) is not None:
                self.running_since = started = time.perf_counter()
                _hand_back(batch, self._execute(batch), started)
                self.running_since = None
                batch = []
        finally:
            # Also reached when something unforeseen ends the thread: nobody may be left waiting for it.
            _hand_back(batch or [], [_inference_error()] * len(batch or []), time.perf_counter())
            self._give_up()
            del self._run  # it leads back to a model, which must not wait for the garbage collector to be freed

    def _take(self) -> list[Entry] | None:
        """The next batch, waiting for one; empty if all of it was cancelled; None when closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            group, ring = min(self._waiting.items(), key=lambda item: item[1].since)
            batch = ring.take(self.max_batch)
            if not ring:
                del self._waiting[group]
            return batch

    def _execute(self, batch: Sequence[Entry]) -> list[Vector | ApiError]:
        if not batch:
            return []
        try:
            vectors = self._run([entry.payload for entry in batch])
            self._on_batch(self.tower, len(batch))
            if len(vectors) != len(batch):
                raise RuntimeError(f"the engine gave {len(vectors)} vectors for {len(batch)} items")
        except Exception:
            log.exception("an execution of the %s tower failed, items: %d", self.tower, len(batch))
            self.failing = True
            if len(batch) == 1:
                return [_inference_error()]
            return [outcome for entry in batch for outcome in self._execute([entry])]
        self.failing = False
        return [vector if np.isfinite(vector).all() else _inference_error() for vector in vectors]

    def _give_up(self) -> None:
        with self._changed:
            self._closed = True
            left = [entry for ring in self._waiting.values() for entry in ring.empty()]
            self._waiting.clear()
        error = ApiError("unavailable", "The service is stopping; send the request again.")
        _hand_back(left, [error] * len(left), time.perf_counter())


def _inference_error() -> ApiError:
    return ApiError("inference_error", "The model failed on this item; other items are not affected.")


def _hand_back(batch: Sequence[Entry], outcomes: Sequence[Vector | ApiError], started: float) -> None:
    """One hop to the event loop for the whole batch."""
    if not batch:
        return
    finished = time.perf_counter()

    def resolve() -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            if entry.future.done():  # cancelled while it ran
                continue
            entry.timing.record("queue", entry.enqueued, started)
            entry.timing.record("inference", started, finished)
            if isinstance(outcome, ApiError):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)

    try:
        batch[0].future.get_loop().call_soon_threadsafe(resolve)
    except RuntimeError:
        log.warning("the event loop has ended before %d items were answered", len(batch))
