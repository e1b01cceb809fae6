"""A worker's part in what all workers do as one service: the answers to questions of their parent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from model.manifest import BundleError
from model.runtime.engine import EngineError
from service.errors import ApiError
from service.inference.pipeline import Pipeline
from service.inference.warmup import TowerProfile
from service.keys import Keys
from service.metrics import Metrics
from service.models import Models, Profiles, performance_key
from service.reloading import PreparedReload, fingerprint
from service.workers.samples import Families, dump

log = logging.getLogger(__name__)
UNDECIDED_S = 3700.0  # longer than the parent waits for the others


class Member:
    """Answers with samples, and takes part in reloads: `prepare`, then either `commit` or `drop`."""

    def __init__(self, metrics: Metrics, keys: Keys, models: Models) -> None:
        self._metrics, self._keys, self._models = metrics, keys, models
        self._prepared: dict[int, asyncio.Task[PreparedReload[Pipeline]]] = {}  # or on the way to it

    def handlers(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """By the name of the question."""
        return {
            "samples": self._samples,
            "reload_keys": self._reload_keys,
            "served": self._served,
            "prepare": self._prepare,
            "commit": self._commit,
            "drop": self._drop,
        }

    async def _samples(self, _: None) -> Families:
        await self._models.opener.record_device_memory()
        return dump(self._metrics.registry)

    async def _reload_keys(self, _: None) -> str | None:
        await self._keys.reload()
        return self._keys.problem

    async def _served(self, _: None) -> dict[str, Any]:
        return _describe(self._models.serving)

    async def _prepare(self, argument: Mapping[str, Any]) -> dict[str, Any]:
        loop, number = asyncio.get_running_loop(), argument["reload"]
        preparing = self._models.prepare(argument["model"], read_profiles(argument["profiles"]), argument["copies"])
        self._prepared[number] = task = loop.create_task(preparing)
        loop.call_later(UNDECIDED_S, self._forget, number)
        try:
            prepared = await task
        except (BundleError, EngineError) as error:
            log.error("this worker cannot reload: %s", error)
            raise self._models.refusal(error) from None
        return {**_describe(prepared.after), "changes": [asdict(change) for change in prepared.changes()]}

    async def _commit(self, number: int) -> None:
        task = self._prepared.pop(number, None)
        if task is None or not task.done():
            raise ApiError("unavailable", "This worker has prepared no such reload.")
        self._models.commit(task.result())

    async def _drop(self, number: int) -> None:
        self._forget(number)

    def _forget(self, number: int) -> None:
        """One that is still on the way is dropped when it gets there."""
        task = self._prepared.pop(number, None)
        if task is not None:
            task.add_done_callback(self._drop_prepared)

    def _drop_prepared(self, task: asyncio.Task[PreparedReload[Pipeline]]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._models.drop(task.result())


def _describe(pipelines: Iterable[Pipeline]) -> dict[str, Any]:
    """Which models these are, for comparison; and what warm-up has measured, for workers that start later."""
    pipelines = list(pipelines)
    return {
        "models": [fingerprint(pipeline.bundle) for pipeline in pipelines],
        "profiles": {
            performance_key(pipeline.bundle.manifest): {
                tower: list(profile) for tower, profile in pipeline.profiles.items()
            }
            for pipeline in pipelines
        },
    }


def read_profiles(measured: Mapping[str, Mapping[str, Sequence[Any]]]) -> Profiles:
    """What `_describe` gave another process."""
    return {
        key: {tower: TowerProfile(*profile) for tower, profile in towers.items()} for key, towers in measured.items()
    }
