"""What waits for a tower: requests take turns, and so do the groups that may share a batch."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.request_context import Timing

Vector = NDArray[np.float32]
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


class Ring:
    """The entries of one group. Each turn takes one entry of the request at the front, which then goes to the back."""

    def __init__(self) -> None:
        self._flows: OrderedDict[int, _Flow] = OrderedDict()
        self._items = 0

    def __len__(self) -> int:
        return self._items

    @property
    def since(self) -> float:
        """When the request whose turn it is had its last one."""
        return next(iter(self._flows.values())).since

    def add(self, entry: Entry) -> None:
        """To the end of what waits of its request."""
        request = id(entry.timing)  # one object a request, alive as long as its entries
        if (flow := self._flows.get(request)) is None:
            flow = self._flows[request] = _Flow(entry.enqueued)
        flow.entries.append(entry)
        self._items += 1

    def take(self, most: int) -> list[Entry]:
        """Up to `most` entries whose requests still want them."""
        now = time.perf_counter()
        taken: list[Entry] = []
        while self._flows and len(taken) < most:
            request, flow = self._flows.popitem(last=False)
            entry = flow.entries.popleft()
            self._items -= 1
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
        self._items = 0
        return left


class Turns:
    """The rings of all groups. The one in which a request has waited longest for its turn goes first."""

    def __init__(self) -> None:
        self._rings: dict[int, Ring] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rings.values()))

    @property
    def urgent(self) -> bool:
        """Something waits that must not be late."""
        return URGENT in self._rings

    def add(self, entry: Entry, group: int) -> None:
        """To the ring of that group."""
        self._rings.setdefault(group, Ring()).add(entry)

    def first(self) -> Ring:
        """The ring whose turn it is; there must be one."""
        return min(self._rings.values(), key=lambda ring: ring.since)

    def forget_empty(self) -> None:
        """After entries were taken."""
        self._rings = {group: ring for group, ring in self._rings.items() if ring}

    def empty(self) -> list[Entry]:
        """All that is left."""
        left = [entry for ring in self._rings.values() for entry in ring.empty()]
        self._rings.clear()
        return left
