"""The queue of one tower: entries grouped by what may share a batch, and within a group served round robin by request.

Fair queueing: a request of one item does not wait for all the items of a large one that came before it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.request_context import Timing

Vector = NDArray[np.float32]  # [dimensions]
URGENT = -1  # the group of health probes; enqueued at time 0, it is always served first


@dataclass(slots=True, eq=False)
class Entry:
    """One queued item, the future of its vector, and when it was enqueued (of time.perf_counter)."""

    payload: Any
    future: asyncio.Future[Vector]
    timing: Timing
    enqueued: float


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
        """Remove and return up to `limit` entries; those whose future was cancelled are dropped."""
        now = time.perf_counter()
        batch: list[Entry] = []
        while self._requests and len(batch) < limit:
            request, queue = self._requests.popitem(last=False)
            entry = queue.entries.popleft()
            self._items -= 1
            if queue.entries:
                queue.waiting_since = now
                self._requests[request] = queue
            if not entry.future.cancelled():
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
        self._groups.setdefault(group, RoundRobin()).add(entry)

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
