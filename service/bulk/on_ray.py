"""The parts of a job on a Ray cluster: Ray Data hands their numbers to actors, one engine each, and counts come back.

Pictures and vectors never pass through Ray. An actor reads its part and writes it into the output folder, which has the
same path on every node, as the inputs have; a part that was lost with its actor is done again by another, a few times.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from model.manifest import BundleError
from model.requirements import needs
from model.runtime.engine import EngineError
from model.runtime.processor import limit_cores
from service.bulk.folder import Folder
from service.bulk.job import JobError, JobRequest, Planned, refuse_other
from service.bulk.layouts import open_layout
from service.bulk.pipeline import PartCount
from service.bulk.ray_actors import Actors, passed_on
from service.bulk.sources import Kind, SourceError
from service.bulk.worker import PartWorker, run_part
from service.settings import SettingsError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before ray is imported: it would report to its makers
with needs("ray"):
    import ray

OPENING_S = 1800.0  # for a first engine: its node may have to start, its model to be read
POLL_S = 0.2
STORE_BYTES = 256 * 2**20  # of the object store: more than all numbers and counts take
TRIES = 5  # of a part whose actor is lost, by default without an end: with a node, or by the part itself
MAX_BLOCKS = 10_000  # of a data set; each is some work for the driver
USAGE = (JobError, SettingsError, SourceError)
REFUSALS = (*USAGE, BundleError, EngineError, OSError)
Refusal = tuple[str, bool]  # why, and whether the command has to change


class RemoteEngine:
    """In a process of its own: the model, and the parts that it is given. It returns refusals: Ray retries errors."""

    def __init__(self, request: JobRequest, cpus: int, job: Mapping[str, Any]) -> None:
        """`job` is what `_job.json` holds; empty where there is none yet."""
        limit_cores(cpus)
        self._refusal: Refusal = ("", False)
        self._planned = Planned.from_job(job) if job else None
        try:
            self._worker = PartWorker(request)
            refuse_other(request.folder, job, self._worker.identity())
        except REFUSALS as error:
            self._refusal = _refusal(error)

    def ask(self, name: str, *arguments: Any) -> tuple[Any, Refusal]:
        """What this method of PartWorker returns, or why it does not."""
        if self._refusal[0]:
            return None, self._refusal
        try:
            return getattr(self._worker, name)(*arguments), ("", False)
        except REFUSALS as error:
            return None, _refusal(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Embed and write the part of a batch of one, unless an actor that was lost had written it."""
        assert self._planned is not None
        number, refusal, count = int(batch["number"][0]), self._refusal, PartCount(0, 0, 0)
        if not refusal[0]:
            request = self._worker.request
            folder = Folder(request.folder, open_layout(request, self._planned).is_done, request.retry_failed)
            try:
                part = folder.part_at(int(batch["offset"][0]))
                count = PartCount(number, part.rows, 0)
                if not folder.is_done(number):
                    count = run_part(self._worker, number, part, self._planned)
            except REFUSALS as error:
                refusal = _refusal(error)
        values = {**count._asdict(), "why": refusal[0], "usage": refusal[1]}
        return {name: [value] for name, value in values.items()}


class RayEngine:
    """What a PartWorker is to a job, on the cluster of RAY_ADDRESS or of this machine, or else a new one."""

    def __init__(self, request: JobRequest, actors: int | None = None) -> None:
        """Open one engine there, and ask it. Raises JobError, and OSError for what it refuses beside."""
        self.request = request
        try:
            ray.init(
                runtime_env={"env_vars": {**passed_on(os.environ), "RAY_USAGE_STATS_ENABLED": "0"}},
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except Exception as error:  # of no class of its own where a node does not start
            raise OSError(f"there is no Ray cluster to be had: {error}") from error
        self._actors = Actors.of_nodes(ray.nodes(), actors)
        opened = ray.remote(RemoteEngine).options(**self._actors.options())
        self._first = opened.remote(request, self._actors.cpus, {})
        self._identity: dict[str, Any] = self._ask("identity")

    def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            answer, refusal = ray.get(self._first.ask.remote(name, *arguments), timeout=OPENING_S)
        except ray.exceptions.GetTimeoutError:
            raise OSError(f"no node of the Ray cluster has had {self._actors} free for {OPENING_S:g} s.") from None
        except ray.exceptions.RayError as error:
            raise OSError(f"the first engine on the Ray cluster is lost: {error}") from error
        _raise(refusal)
        return answer

    def identity(self) -> dict[str, Any]:
        """As of PartWorker, of an engine on the cluster: this machine may have another processor, or no GPU."""
        return self._identity

    def check(self, kind: Kind) -> None:
        """As of PartWorker."""
        self._ask("check", kind)

    def best_batch(self, kind: Kind) -> int:
        """As of PartWorker, measured there."""
        found: int = self._ask("best_batch", kind)
        return found

    def run_pending(
        self, folder: Folder, planned: Planned, advance: Callable[[int, int], object], stop: Callable[[], None]
    ) -> Iterator[PartCount]:
        """As of PartWorker, in no order. Raises JobError or OSError where an actor cannot go on."""
        places = [{"number": number, "offset": offset} for number, offset in folder.pending_places()]
        if not places:
            return
        ray.kill(self._first)  # what it was given is wanted now
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        options = context.execution_options
        options.resource_limits = options.resource_limits.copy(object_store_memory=STORE_BYTES)
        data = ray.data.from_items(places, override_num_blocks=min(len(places), MAX_BLOCKS)).map_batches(
            RemoteEngine,
            fn_constructor_args=[self.request, self._actors.cpus, folder.job()],
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._actors.most),
            max_task_retries=TRIES - 1,
            **self._actors.options(),
        )
        for row in _consume(data, stop):
            _raise((row["why"], row["usage"]))
            count = PartCount(row["number"], row["items"], row["failed"])
            advance(count.items, count.failed)
            yield count

    def close(self) -> None:
        """Take leave of the cluster, which ends what still runs there for this job."""
        ray.shutdown()


def _consume(data: Any, stop: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """The rows as they come; `stop` is asked meanwhile, as a part may take minutes."""
    rows: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()

    def read() -> None:
        try:
            for row in data.iter_rows():
                rows.put(row)
            rows.put(None)
        except Exception as error:
            rows.put(error)

    threading.Thread(target=read, name="ray rows", daemon=True).start()
    while True:
        stop()
        try:
            row = rows.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if isinstance(row, Exception):
            raise OSError(f"the Ray cluster could not go on: {row}") from row
        if row is None:
            return
        yield row


def _refusal(error: Exception) -> Refusal:
    return str(error), isinstance(error, USAGE)


def _raise(refusal: Refusal) -> None:
    why, usage = refusal
    if why:
        raise JobError(why) if usage else OSError(why)
