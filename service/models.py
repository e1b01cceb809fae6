"""The models served: loaded at the start, and swapped for what their folders hold later without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from model.bundle import Bundle, BundleError, Manifest, bundled
from model.engine import Engine, give_back_freed_memory
from service.errors import ApiError
from service.pulling import Puller
from service.work.pipeline import Pipeline
from service.work.shared import Shared
from service.work.warmup import Measured

log = logging.getLogger(__name__)


class Models:
    """One pipeline for each configured folder or name, in their order; the first is the default."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._puller = Puller()
        self._folders: list[Path] = []
        self._serving: tuple[Pipeline, ...] = ()
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def serving(self) -> Sequence[Pipeline]:
        """Those that take requests; none before `load` is done."""
        return self._serving

    def load(self) -> None:
        """Pull what is named and not here, verify, open and warm up every bundle; for a thread.

        Raises BundleError or EngineError.
        """
        self._folders = [self._puller.folder(name) for name in self._shared.settings.model] or [bundled()]
        opened: list[Pipeline] = []
        try:
            opened.extend(self._open(Bundle.load(folder)) for folder in self._folders)
            _expect_different_ids(opened)
        except Exception:
            _close_all(opened)
            raise
        self._serve(opened)

    def find(self, name: str | None) -> Pipeline:
        """The model of that id; the default one for None."""
        if not self._serving:
            raise ApiError("unavailable", "The model is still loading; try again shortly.")
        if name is None:
            return self._serving[0]
        for pipeline in self._serving:
            if pipeline.bundle.id == name:
                return pipeline
        there = ", ".join(pipeline.bundle.id for pipeline in self._serving)
        raise ApiError("model_not_found", f"No model of this name is served here; there is {there}.", "model")

    async def reload(self, name: str | None = None) -> list[tuple[Pipeline, Pipeline]]:
        """Swap in what the folders hold now, of one model or of all: pairs of before and after, the same if unchanged.

        All or nothing. Raises BundleError or EngineError, and then what was served still is.
        """
        async with self._changing:
            before = list(self._serving)
            named = self.find(name)
            chosen = before if name is None else [named]
            try:
                after = await asyncio.to_thread(self._renew, before, chosen)
            except Exception:
                self._shared.metrics.reloads.labels("failed").inc()
                raise
            self._swap(before, after)
            self._shared.metrics.reloads.labels("done").inc()
            return list(zip(before, after, strict=True))

    def without_paths(self, message: str) -> str:
        """The message with names of files, but not of folders of this machine."""
        for folder in self._folders:
            message = message.replace(f"{folder}/", "").replace(str(folder), "the bundle")
        return message

    async def reopen(self, failed: Pipeline) -> None:
        """Put a new engine in the place of one that fails. Raises BundleError or EngineError."""
        async with self._changing:
            before = list(self._serving)
            if failed not in before:
                return
            folder = self._folders[before.index(failed)]
            fresh = await asyncio.to_thread(lambda: self._open(Bundle.load(folder), failed.measured))
            self._swap(before, [fresh if pipeline is failed else pipeline for pipeline in before])

    def _renew(self, before: Sequence[Pipeline], chosen: Sequence[Pipeline]) -> list[Pipeline]:
        after: list[Pipeline] = []
        try:
            for folder, pipeline in zip(self._folders, before, strict=True):
                after.append(self._successor(folder, pipeline) if pipeline in chosen else pipeline)
            _expect_different_ids(after)
        except Exception:
            _close_all(pipeline for pipeline in after if pipeline not in before)
            raise
        return after

    def _successor(self, folder: Path, pipeline: Pipeline) -> Pipeline:
        bundle = Bundle.load(folder)
        if bundle.manifest == pipeline.bundle.manifest:
            return pipeline
        same_shape = _pace(bundle.manifest) == _pace(pipeline.bundle.manifest)
        # Under load, a measurement of the best batch would be one of the load.
        return self._open(bundle, pipeline.measured if same_shape else None)

    def _open(self, bundle: Bundle, known: Mapping[str, Measured] | None = None) -> Pipeline:
        pipeline = Pipeline(bundle, Engine(bundle, self._shared.settings.provider), self._shared, known)
        give_back_freed_memory()
        return pipeline

    def _swap(self, before: Sequence[Pipeline], after: Sequence[Pipeline]) -> None:
        self._serve(after)
        for pipeline in before:
            if pipeline not in after:
                task = asyncio.create_task(pipeline.retire())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)

    def _serve(self, pipelines: Sequence[Pipeline]) -> None:
        self._serving = tuple(pipelines)  # the one moment at which it changes
        info = self._shared.metrics.model_info
        info.clear()
        for pipeline in pipelines:
            bundle, engine = pipeline.bundle, pipeline.engine
            info.labels(bundle.id, bundle.digest, bundle.precision, engine.provider).set(1)
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


def _pace(manifest: Manifest) -> tuple[object, ...]:
    """What decides how fast a model is."""
    variant = manifest.variant
    towers = (variant.image, variant.text) if variant else ()
    made = [(tower.computes, tower.fused, tower.calibration_pictures > 0) for tower in towers]
    return manifest.config, manifest.precision, manifest.weights_dtype, made


def _close_all(pipelines: Iterable[Pipeline]) -> None:
    for pipeline in pipelines:
        pipeline.close()


def _expect_different_ids(pipelines: Sequence[Pipeline]) -> None:
    ids = [pipeline.bundle.id for pipeline in pipelines]
    for name in ids:
        if ids.count(name) > 1:
            raise BundleError(f"two of the bundles are called {name}: clients could not tell them apart")
