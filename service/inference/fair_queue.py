"""The queue of one tower: entries grouped by what may share a batch, and within a group served round robin by request.

Fair queueing: a request of one item does not wait for all the items of a large one that came before it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ApiError
from service.request_context import Timing

Vector = NDArray[np.float32]  # [dimensions]
URGENT = -1  # the group of health probes; enqueued at time 0, it is always served first


class Entry:
    """One queued item, the timing of its request, and when it was enqueued (of time.perf_counter).

    `task` is what works for it on the event loop, and ends with it.
    """

    __slots__ = ("enqueued", "loop", "payload", "task", "timing")

    def __init__(self, payload: Any, timing: Timing, loop: asyncio.AbstractEventLoop) -> None:
        self.payload, self.timing, self.loop = payload, timing, loop
        self.enqueued = 0.0
        self.task: asyncio.Task[None] | None = None

    @property
    def cancelled(self) -> bool:
        """Nobody waits for it any more: it is dropped from the queue, and not finished. Asked from any thread."""
        raise NotImplementedError

    def finish(self, outcome: Vector | ApiError) -> None:
        """Take the vector [dim] of the item, or why there is none. On the event loop, once at most."""
        raise NotImplementedError


class FutureEntry(Entry):
    """An entry whose outcome is that of a future, and which is cancelled by it."""

    __slots__ = ("future",)

    def __init__(self, payload: Any, timing: Timing, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(payload, timing, loop)
        self.future: asyncio.Future[Vector] = loop.create_future()

    @property
    def cancelled(self) -> bool:
        """Whether the future is."""
        return self.future.cancelled()

    def finish(self, outcome: Vector | ApiError) -> None:
        """Resolve the future, unless it was cancelled meanwhile."""
        if self.future.done():
            return
        if isinstance(outcome, ApiError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


def abandon(futures: Iterable[asyncio.Future[Vector]]) -> None:
    """Take what is not done out of its queue, and retrieve the failures that nobody will ask for."""
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()


@dataclass(slots=True)
class _RequestQueue:
    """The entries of one request, first in, first out. `waiting_since`: when it came, or was last served."""

    waiting_since: float
    entries: deque[Entry] = field(default_factory=deque)


class RoundRobin:
    """The entries of one group: each step serves one entry of the request at the front, which then goes to the back."""

    def __init__(self) -> None:
        self._requests: OrderedDict[int, _RequestQueue] = OrderedDict()
        self._items = 0

    def __len__(self) -> int:
        return self._items

    @property
    def waiting_since(self) -> float:
        """When the request at the front was last served; the group must not be empty."""
        return next(iter(self._requests.values())).waiting_since

    def add(self, entry: Entry) -> None:
        """Append to the queue of the entry's request."""
        request = id(entry.timing)  # one object a request, alive as long as its entries
        if (queue := self._requests.get(request)) is None:
            queue = self._requests[request] = _RequestQueue(entry.enqueued)
        queue.entries.append(entry)
        self._items += 1

    def take(self, limit: int) -> list[Entry]:
        """Remove and return up to `limit` entries; those that were cancelled are dropped."""
        now = time.perf_counter()
        batch: list[Entry] = []
        while self._requests and len(batch) < limit:
            request, queue = self._requests.popitem(last=False)
            entry = queue.entries.popleft()
            self._items -= 1
            if queue.entries:
                queue.waiting_since = now
                self._requests[request] = queue
            if not entry.cancelled:
                batch.append(entry)
        return batch

    def drain(self) -> list[Entry]:
        """Remove and return all entries."""
        entries = [entry for queue in self._requests.values() for entry in queue.entries]
        self._requests.clear()
        self._items = 0
        return entries


class FairQueue:
    """One round robin a group; the group in which a request has waited longest to be served is served next."""

    def __init__(self) -> None:
        self._groups: dict[int, RoundRobin] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    @property
    def urgent(self) -> bool:
        """Whether a health probe is queued."""
        return URGENT in self._groups

    def add(self, entry: Entry, group: int) -> None:
        """Append to that group."""
        if (entries := self._groups.get(group)) is None:
            entries = self._groups[group] = RoundRobin()
        entries.add(entry)

    def next_group(self) -> RoundRobin:
        """The group to serve next; the queue must not be empty."""
        return min(self._groups.values(), key=lambda entries: entries.waiting_since)

    def drop_empty_groups(self) -> None:
        """Forget groups of which all entries were taken."""
        self._groups = {group: entries for group, entries in self._groups.items() if entries}

    def drain(self) -> list[Entry]:
        """Remove and return all entries."""
        left = [entry for entries in self._groups.values() for entry in entries.drain()]
        self._groups.clear()
        return left
