"""Dynamic batching: one queue per tower, and workers (threads) that run batches side by side while the next ones fill.

There is no timer. A worker takes what is queued as soon as it is free, so a lone request never waits and a busy service
fills its batches by itself. Five promises hold here, each with a test:

- every entry is finished, whatever fails;
- one poisoned item fails alone: when a batch raises, its halves are run again, and theirs, down to the one;
- an entry whose request was cancelled is not run;
- requests are served round robin: one of a single item does not wait for all the items of a large one before it;
- the engine is never idle while something waits: a worker takes its next batch without asking the event loop.

The first worker to run has all cores, through the threads of the engine; another one beside it takes its share of them.
That pays for batches of some size only: beside one that runs, another begins when a third of the largest is there.

A batch that the device has no memory for is run in smaller ones, and from then on none is larger than what fits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtime.device_memory import is_out_of_memory
from service.errors import ApiError
from service.inference.fair_queue import URGENT, Entry, FairQueue, FutureEntry, Vector
from service.inference.padding import smaller_size
from service.inference.wake_ups import WakeUps
from service.request_context import Timing

Run = Callable[[Sequence[Any]], NDArray[np.float32]]
log = logging.getLogger(__name__)


class Batcher:
    """Collects payloads of one tower and runs them together.

    `run` takes up to `max_batch` payloads and gives vectors [batch, dim]; it is only ever called from the workers, from
    all of them at once. Only payloads of the same `group` share a batch: texts are grouped by length, so that a long
    one does not make short ones pay for its padding. `on_batch` is called with the tower and the number of items, and
    `on_halving` with the tower where memory has run out and `max_batch` is less from now on.
    """

    def __init__(
        self,
        tower: str,
        run: Run,
        max_batch: int,
        group: Callable[[Any], int] = lambda payload: 0,
        on_batch: Callable[[str, int], None] = lambda tower, items: None,
        on_halving: Callable[[str], None] = lambda tower: None,
        workers: int = 1,
    ) -> None:
        self.tower = tower
        self.max_batch = self._measured_max_batch = max_batch
        self.failing = False  # the last execution raised; readiness then asks for a probe
        self.closed = False  # nothing is taken any more
        self._run, self._group, self._on_batch, self._on_halving = run, group, on_batch, on_halving
        self._waiting = FairQueue()
        self._will_wake = False  # in the event loop's next turn
        self._lock, self._wake_ups = threading.Lock(), WakeUps()
        self._idle = 0  # workers that wait to be woken
        # By worker: since when it runs, of time.perf_counter, and how many items.
        self._running: dict[int, tuple[float, int]] = {}
        self._live_workers = workers
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"{tower}-tower-{worker}", daemon=True)
            for worker in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """All workers run: when one has ended, nothing is ever answered."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def _least_parallel(self) -> int:
        """Items of a batch that is run beside another."""
        return -(-self.max_batch // 3)

    @property
    def running_since(self) -> float | None:
        """When the run began that has lasted longest, of time.perf_counter; None while nothing runs."""
        return min((started for started, _ in tuple(self._running.values())), default=None)

    def submit(self, payloads: Sequence[Any], timing: Timing, urgent: bool = False) -> list[asyncio.Future[Vector]]:
        """Queue the payloads; each future gives a vector [dim] or raises ApiError. Called on the event loop.

        `urgent` is for health probes: a long queue must not make them late.
        """
        loop = asyncio.get_running_loop()
        entries = [FutureEntry(payload, timing, loop) for payload in payloads]
        self._add(entries, URGENT if urgent else None)
        loop.call_soon(self._wake)
        return [entry.future for entry in entries]

    def put_soon(self, entries: Sequence[Entry], loop: asyncio.AbstractEventLoop) -> None:
        """Queue entries, on the event loop. Raises ApiError when closed.

        They are taken not at once but in the loop's next turn: requests that came in together then share the batch.
        """
        self._add(entries)
        if not self._will_wake:
            self._will_wake = True
            loop.call_soon(self._wake)

    def put(self, entries: Sequence[Entry]) -> None:
        """Queue entries, to be taken at once. From any thread; raises ApiError when closed."""
        self._add(entries)
        self._wake()

    def close(self) -> None:
        """Finish the running batches and resolve what still waits with `unavailable`."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, 0
        self._wake_ups.release(idle)
        for thread in self._threads:
            thread.join()

    def _add(self, entries: Sequence[Entry], group: int | None = None) -> None:
        now = 0.0 if group == URGENT else time.perf_counter()
        with self._lock:
            if self.closed:
                raise stopping()
            for entry in entries:
                entry.enqueued = now
                self._waiting.add(entry, self._group(entry.payload) if group is None else group)

    def _wake(self) -> None:
        self._will_wake = False
        with self._lock:
            woken = self._take_idle()
        self._wake_ups.release(woken)

    def _take_idle(self) -> int:
        """How many workers to wake, once the lock is free: one, if one is idle and a batch is due."""
        woken = int(self._idle > 0 and self._batch_is_due())
        self._idle -= woken
        return woken

    def _batch_is_due(self) -> bool:
        """Whether a free worker is to take a batch now."""
        beside = self._running and not self._waiting.urgent
        return len(self._waiting) >= (self._least_parallel if beside else 1)

    def _work(self, worker: int) -> None:
        batch: list[Entry] | None = []
        try:
            while (batch := self._take(worker)) is not None:
                _resolve(batch, self._execute(batch), self._running[worker][0])
                batch = []
        finally:
            # Also reached when something unforeseen ends the thread: nobody may be left waiting for it.
            _resolve(batch or [], [_inference_error()] * len(batch or []), time.perf_counter())
            self._stop(worker)

    def _take(self, worker: int) -> list[Entry] | None:
        """The next batch, waiting for one; empty if all of it was cancelled; None when closed."""
        while True:
            with self._lock:
                self._running.pop(worker, None)
                if self.closed:
                    return None
                if self._batch_is_due():
                    queue = self._waiting.next_group()
                    batch = queue.take(self._batch_size(len(queue)))
                    self._waiting.drop_empty_groups()
                    self._running[worker] = time.perf_counter(), len(batch)
                    woken = self._take_idle()  # of what is left, another worker may make a batch
                    break
                self._idle += 1
            self._wake_ups.acquire()
        self._wake_ups.release(woken)
        return batch

    def _batch_size(self, waiting: int) -> int:
        """How many of the queued items a worker takes: as many as the others have, or will find when they are free."""
        items = waiting + sum(size for _, size in self._running.values())
        parts = max(1, min(self._live_workers, items // self._least_parallel))
        return min(self.max_batch, -(-items // parts))

    def _execute(self, batch: Sequence[Entry]) -> list[Vector | ApiError]:
        if not batch:
            return []
        if len(batch) > self.max_batch:  # it has fallen since the batch was taken
            return self._execute_parts(batch, self.max_batch)
        try:
            vectors = self._run([entry.payload for entry in batch])
            self._on_batch(self.tower, len(batch))
            if len(vectors) != len(batch):
                raise RuntimeError(f"the engine gave {len(vectors)} vectors for {len(batch)} items")
            finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
        except Exception as error:
            log.exception("an execution of the %s tower failed, items: %d", self.tower, len(batch))
            no_memory = is_out_of_memory(error)
        else:
            self.failing = False
            return [vector if good else _inference_error() for vector, good in zip(vectors, finite, strict=True)]
        return self._execute_smaller(batch, no_memory)  # when the error is gone, and the frames that it came through

    def _execute_smaller(self, batch: Sequence[Entry], no_memory: bool) -> list[Vector | ApiError]:
        """What to do about a batch that has failed."""
        items = len(batch)
        if no_memory and items > 1:
            return self._execute_parts(batch, self._limit(smaller_size(items)))
        self.failing = True
        if items > 1:
            return self._execute_parts(batch, -(-items // 2))
        if no_memory:  # whatever has taken it, the size of batches has not
            self.max_batch = self._measured_max_batch
            return [_no_memory()]
        return [_inference_error()]

    def _execute_parts(self, batch: Sequence[Entry], size: int) -> list[Vector | ApiError]:
        parts = (batch[start : start + size] for start in range(0, len(batch), size))
        return [outcome for part in parts for outcome in self._execute(part)]

    def _limit(self, max_batch: int) -> int:
        """Let no batch be larger from now on. Returns the largest."""
        with self._lock:
            if max_batch < self.max_batch:
                log.warning(
                    "the %s tower has no memory for batches of %d items: from now on they are of at most %d",
                    self.tower,
                    self.max_batch,
                    max_batch,
                )
                self.max_batch = max_batch
                self._on_halving(self.tower)
            return self.max_batch

    def _stop(self, worker: int) -> None:
        """End the other workers too: one that ended unforeseen must not leave the rest half able."""
        with self._lock:
            self.closed = True
            self._running.pop(worker, None)
            left = self._waiting.drain()
            self._wake_ups.release(self._idle)
            self._idle = 0
            self._live_workers -= 1
            if not self._live_workers:
                self._wake_ups.close()
                del self._run  # it leads back to a model, which must not wait for the garbage collector to be freed
        _resolve(left, [stopping()] * len(left), time.perf_counter())


def _inference_error() -> ApiError:
    return ApiError("inference_error", "The model failed on this item; other items are not affected.")


def _no_memory() -> ApiError:
    return ApiError("inference_error", "The device has no memory left for this item; try again later.")


def stopping() -> ApiError:
    """The error of what a process that ends does not do any more."""
    return ApiError("unavailable", "The service is stopping; send the request again.")


def _resolve(batch: Sequence[Entry], outcomes: Sequence[Vector | ApiError], started: float) -> None:
    """One hop to the event loop for the whole batch."""
    if not batch:
        return
    finished = time.perf_counter()

    def resolve() -> None:
        # Of the entries of one request, the first one has waited longest.
        for first in {id(entry.timing): entry for entry in reversed(batch)}.values():
            first.timing.record("queue", first.enqueued, started)
            first.timing.record("inference", started, finished)
        for entry, outcome in zip(batch, outcomes, strict=True):
            if not entry.cancelled:  # while it ran
                entry.finish(outcome)

    try:
        batch[0].loop.call_soon_threadsafe(resolve)
    except RuntimeError:
        log.warning("the event loop has ended before %d items were answered", len(batch))
