"""One /metrics for all workers, gathered and rendered in their parent: no worker's event loop has to."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from service.errors import ApiError
from service.metrics import render
from service.workers.channel import ChannelError
from service.workers.samples import Collected, Families, counters, dump, merge
from service.workers.siblings import Workers

log = logging.getLogger(__name__)
SAMPLES_S = 2.0  # a worker that takes longer is left out of the gauges


class ServiceMetrics:
    """The metrics of the parent, and from the workers' those of the service.

    No counter falls when a worker ends: what it had counted when it was last asked is kept. What it has counted since
    then is lost with it.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._ended: Families = []  # counters of workers that are no more
        # Counters of the others as they last answered, by number and by how many had this number before.
        self._last: dict[tuple[int, int], Families] = {}
        self._predecessors: defaultdict[int, int] = defaultdict(int)
        self._gathering = asyncio.Lock()
        self._next: asyncio.Task[Families] | None = None
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._count = Gauge("sightword_workers", "Workers that there are to be.", registry=registry)
        self._ready = Gauge("sightword_workers_ready", "Workers that take requests.", registry=registry)
        self._silent = Gauge(
            "sightword_workers_silent",
            "Workers that did not answer this scrape: their gauges are missing, their counters are those of before.",
            registry=registry,
        )
        self._restarts = Counter(
            "sightword_worker_restarts",
            "Workers that have ended; another takes the place of each until the service ends.",
            registry=registry,
        )
        self.reloads = Counter("sightword_reloads", "Models swapped in, by outcome.", ["outcome"], registry=registry)
        for outcome in ("done", "failed"):  # from the start: of one that appears at 1, Prometheus sees no increase
            self.reloads.labels(outcome)
        self._count.set(workers.count)

    async def answer(self, number: int, accept: str) -> dict[str, str]:
        """For a worker that was asked for /metrics: the exposition and its content type."""
        content, media_type = render(Collected(await self.gather()), accept)
        return {"content": content.decode(), "media_type": media_type}

    async def gather(self) -> Families:
        """Ask all workers. Whoever comes while that goes on shares the next time: answers never get older."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._gather_in_turn())
        return await asyncio.shield(self._next)

    async def _gather_in_turn(self) -> Families:
        async with self._gathering:
            self._next = None
            self._keep_counters_of_ended()
            asked = [(number, self._predecessors[number]) for number in self._workers.connected()]
            answers = dict(zip(asked, await asyncio.gather(*map(self._ask, asked)), strict=True))
            heard = [families for families in answers.values() if families is not None]
            self._silent.set(len(asked) - len(heard))
            self._ready.set(sum(self._is_ready(number, families) for (number, _), families in answers.items()))
            others = [families for worker, families in self._last.items() if answers.get(worker) is None]
            return merge([dump(self.registry), *heard, *others, self._ended])

    async def _ask(self, worker: tuple[int, int]) -> Families | None:
        try:
            families: Families = await self._workers.ask(worker[0], "samples", None, SAMPLES_S)
        except (ApiError, ChannelError) as error:
            log.warning("worker %d is left out of /metrics: %s", worker[0], error)
            return None
        self._last[worker] = counters(families)
        return families

    def forget(self, number: int) -> None:
        """A worker has ended: keep what it had counted."""
        self._restarts.inc()
        self._predecessors[number] += 1

    def _is_ready(self, number: int, families: Families | None) -> bool:
        """Whether it takes connections, as the parent knows, and says itself that it is well."""
        if families is None or number not in self._workers.serving():
            return False
        return any(sample[2] for name, _, _, samples in families if name == "sightword_ready" for sample in samples)

    def _keep_counters_of_ended(self) -> None:
        for worker in list(self._last):
            if worker[1] != self._predecessors[worker[0]]:
                self._ended = merge([self._ended, self._last.pop(worker)])
