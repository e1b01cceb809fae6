"""The models served: loaded at the start, and swapped for what their folders hold later without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from model.bundle import Bundle, bundled
from model.manifest import BundleError, Manifest, read_manifest
from model.runtime.engine import EngineError
from model.runtime.providers import choose, usable
from service.errors import ApiError
from service.inference.pipeline import Pipeline
from service.inference.shared_resources import SharedResources
from service.inference.warmup import TowerProfile
from service.model_names import ModelNames
from service.opening import OPEN_S, Opener
from service.pulling import Puller
from service.reloading import Change, ChangeLock, PreparedReload
from service.threads import StalledError, Watchdog, run_in_daemon_thread

log = logging.getLogger(__name__)
T = TypeVar("T")
Profiles = Mapping[str, Mapping[str, TowerProfile]]  # by performance key and tower
STALL_S = 30.0  # in which a folder gives nothing of a file
RELOAD_WAIT_S = 10.0  # for a reload that goes on already


class Models:
    """One pipeline for each configured folder or name, in their order; the first is the default."""

    def __init__(self, shared: SharedResources) -> None:
        self._shared = shared
        self._puller = Puller()
        self._folders: list[Path] = []
        self._names = ModelNames(shared.settings.aliases())
        self.opener = Opener(shared)
        self._serving: tuple[Pipeline, ...] = ()
        self._known: Profiles = {}
        self._changing = ChangeLock()
        self._reading: defaultdict[str, Watchdog] = defaultdict(lambda: Watchdog(STALL_S))  # by folder or name
        self._users: Counter[Pipeline] = Counter()
        self._unused: dict[Pipeline, asyncio.Event] = {}  # of those that are to be closed once nobody uses them
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def serving(self) -> Sequence[Pipeline]:
        """Those that take requests; none before `load` is done."""
        return self._serving

    def check(self) -> Sequence[str]:
        """Check the settings before anybody connects. Returns the models' names; for a thread, and soon done.

        Raises BundleError for a folder without a manifest or a name that no model has, and EngineError for a provider
        that is not there.
        """
        usable(choose(self._shared.settings.provider), self._shared.settings.provider, self._shared.settings.device)
        names = self._shared.settings.model
        folders = {name: self._ask(name, self._puller.find) for name in names} or {"": bundled()}
        found = {
            name: self._ask(str(folder), lambda path: read_manifest(Path(path)))
            for name, folder in folders.items()
            if folder
        }
        return [found[name].id if name in found else name for name in folders]

    def load(self, known: Profiles | None = None) -> None:
        """Pull what is named and not here, verify, open and warm up every bundle; for a thread.

        What another process has measured, in `known`, is not measured again. Raises BundleError or EngineError.
        """
        self._known = known or {}
        self._folders = [
            self._ask(name, self._puller.find) or self._puller.pull(name) for name in self._shared.settings.model
        ] or [bundled()]
        opened: list[Pipeline] = []
        try:
            for folder in self._folders:
                bundle = self._read(folder)
                opened.append(self.opener.open(bundle, self._known.get(performance_key(bundle.manifest))))
            self._names.check(_bundles(opened))
        except Exception:
            _close_all(opened)
            raise
        self.serve(opened)

    def find(self, name: str | None) -> Pipeline:
        """The model of that id; the default one for None."""
        if not self._serving:
            raise ApiError("unavailable", "The model is still loading; try again shortly.")
        return self._serving[0 if name is None else self._names.find(name, _bundles(self._serving))]

    def use(self, pipeline: Pipeline) -> AbstractContextManager[Pipeline]:
        """Keep it open in the `with`, also when a reload puts another in its place."""
        return _Use(pipeline, self._users, self._unused)

    async def _retire(self, pipeline: Pipeline) -> None:
        """Close one that no new user can reach any more, once its last user is done."""
        if self._users[pipeline]:
            self._unused[pipeline] = asyncio.Event()
            await self._unused[pipeline].wait()
            del self._unused[pipeline]
        await run_in_daemon_thread(_retire, pipeline)

    async def reload(self, name: str | None = None) -> list[Change]:
        """Swap in what the folders hold now, of one model or of all; gives each model served, changed or not.

        All or nothing. Raises BundleError, EngineError, or `unavailable` where one is still going on, and then what
        was served still is.
        """
        reloads = self._shared.metrics.reloads
        try:
            prepared = await self.prepare(name)
        except ApiError:  # nothing was begun
            raise
        except Exception:
            reloads.labels("failed").inc()
            raise
        self.commit(prepared)
        reloads.labels("done").inc()
        return prepared.changes()

    async def prepare(
        self, name: str | None = None, known: Profiles | None = None, copies: int = 1
    ) -> PreparedReload[Pipeline]:
        """Read, verify, open and warm up what is to be swapped in, beside what serves: all of a reload that can fail.

        Raises as `reload` does; `known` is as for `load`, `copies` as for `Opener.open`. No other change begins until
        `commit` or `drop` of it.
        """
        await self._changing.acquire(RELOAD_WAIT_S)
        try:
            await self._wait_for_retired()
            self._known = known or {}
            before = list(self._serving)
            named = self.find(name)
            chosen = before if name is None else [named]
            return PreparedReload(before, await run_in_daemon_thread(self._renew, before, chosen, copies))
        except BaseException:
            self._changing.release()
            raise

    def commit(self, prepared: PreparedReload[Pipeline]) -> None:
        """Let what was prepared take the requests from now on."""
        self._swap(prepared.before, prepared.after)
        self._changing.release()

    def drop(self, prepared: PreparedReload[Pipeline]) -> None:
        """Close what was prepared, and go on with what serves."""
        self._retire_all(pipeline for pipeline in prepared.after if pipeline not in prepared.before)
        self._changing.release()

    async def _wait_for_retired(self) -> None:
        """Until what gave way to an earlier reload is closed, its memory of a GPU is not free; wait for a while."""
        if self._retiring and self.opener.device_memory.may_use_gpu():
            await asyncio.wait(self._retiring, timeout=RELOAD_WAIT_S)

    def refusal(self, error: BundleError | EngineError) -> ApiError:
        """What a client is told of a failed reload: names of files, but not of folders of this machine."""
        message = str(error)
        for folder in self._folders:
            message = message.replace(f"{folder}/", "").replace(str(folder), "the bundle")
        return ApiError("invalid_bundle", f"Nothing was reloaded: {message}.")

    async def reopen(self, failed: Pipeline) -> None:
        """Put a new engine in the place of one that fails. Raises BundleError or EngineError."""
        async with self._changing.hold(STALL_S + OPEN_S):
            before = list(self._serving)
            if failed not in before:
                return
            folder = self._folders[before.index(failed)]
            fresh = await run_in_daemon_thread(lambda: self.opener.open(self._read(folder), failed.profiles, failed))
            self._swap(before, [fresh if pipeline is failed else pipeline for pipeline in before])

    def _renew(self, before: Sequence[Pipeline], chosen: Sequence[Pipeline], copies: int) -> list[Pipeline]:
        after: list[Pipeline] = []
        try:
            for folder, pipeline in zip(self._folders, before, strict=True):
                after.append(self._successor(folder, pipeline, copies) if pipeline in chosen else pipeline)
            self._names.check(_bundles(after))
        except Exception:
            _close_all(pipeline for pipeline in after if pipeline not in before)
            raise
        return after

    def _successor(self, folder: Path, pipeline: Pipeline, copies: int) -> Pipeline:
        bundle = self._read(folder)
        if bundle.manifest == pipeline.bundle.manifest:
            return pipeline
        same_speed = performance_key(bundle.manifest) == performance_key(pipeline.bundle.manifest)
        # Under load, a measurement of the best batch would be one of the load.
        profiles = pipeline.profiles if same_speed else self._known.get(performance_key(bundle.manifest))
        return self.opener.open(bundle, profiles, pipeline, copies)

    def _read(self, folder: Path) -> Bundle:
        return self._watched(str(folder), lambda alive: Bundle.load(folder, alive))

    def _ask(self, name: str, ask: Callable[[str], T]) -> T:
        return self._watched(name, lambda _: ask(name))

    def _watched(self, folder: str, work: Callable[[Callable[[], None]], T]) -> T:
        try:
            return self._reading[folder].run(work)
        except StalledError:
            raise BundleError(
                f"{folder} has not answered for {STALL_S:g} s: is the volume that it is on still there?"
            ) from None

    def _swap(self, before: Sequence[Pipeline], after: Sequence[Pipeline]) -> None:
        self.serve(after)
        self._retire_all(pipeline for pipeline in before if pipeline not in after)

    def _retire_all(self, pipelines: Iterable[Pipeline]) -> None:
        for pipeline in pipelines:
            task = asyncio.create_task(self._retire(pipeline))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def aliases_of(self, pipeline: Pipeline) -> list[str]:
        """The further names of a model."""
        return self._names.aliases_of(pipeline.bundle, _bundles(self._serving))

    def serve(self, pipelines: Sequence[Pipeline]) -> None:
        """Let these take the requests from now on."""
        self._serving = tuple(pipelines)  # the one moment at which it changes
        metrics = self._shared.metrics
        info = metrics.model_info
        info.clear()
        metrics.max_batch.clear()
        for pipeline in pipelines:
            bundle, engine = pipeline.bundle, pipeline.engine
            info.labels(bundle.id, bundle.digest, bundle.precision, engine.provider).set(1)
            for tower in pipeline.towers:
                metrics.max_batch.labels(bundle.id, tower.tower).set_function(partial(getattr, tower, "max_batch"))
            log.info(
                "serving %s (%s, %s), batches up to %s",
                bundle.id,
                bundle.digest[:12],
                engine.provider,
                ", ".join(f"{size} {tower}s" for tower, size in pipeline.max_batch.items()),
            )
            for warning in bundle.manifest.warnings:
                log.warning("%s: %s", bundle.id, warning)

    def close(self) -> None:
        """End the threads of all, and a pull that is still going on."""
        self._puller.stop()
        _close_all(self._serving)


class _Use:
    """One user of a pipeline: counted in `users`, and where it was the last, `unused` is told."""

    __slots__ = ("_pipeline", "_unused", "_users")

    def __init__(self, pipeline: Pipeline, users: Counter[Pipeline], unused: Mapping[Pipeline, asyncio.Event]) -> None:
        self._pipeline, self._users, self._unused = pipeline, users, unused

    def __enter__(self) -> Pipeline:
        self._users[self._pipeline] += 1
        return self._pipeline

    def __exit__(self, *_: object) -> None:
        pipeline, users = self._pipeline, self._users
        users[pipeline] -= 1
        if not users[pipeline]:
            del users[pipeline]
            if pipeline in self._unused:
                self._unused[pipeline].set()


def performance_key(manifest: Manifest) -> str:
    """What decides how fast a model runs: those of equal keys share the profiles that warm-up measured."""
    variant = manifest.variant
    towers = (variant.image, variant.text) if variant else ()
    computations = [(tower.computes, tower.fused, tower.calibration_pictures > 0) for tower in towers]
    return repr((manifest.config, manifest.precision, manifest.weights_dtype, computations))


def _retire(pipeline: Pipeline) -> None:
    pipeline.close()
    pipeline.engine.close()


def _close_all(pipelines: Iterable[Pipeline]) -> None:
    for pipeline in pipelines:
        pipeline.close()


def _bundles(pipelines: Iterable[Pipeline]) -> list[Bundle]:
    return [pipeline.bundle for pipeline in pipelines]
