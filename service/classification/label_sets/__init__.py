"""Label sets by name: stored in Redis or in files, and cached in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from cachetools import LRUCache

from service.board import Board, Field, Row
from service.classification.label_sets.file_store import FileStore
from service.classification.label_sets.store import (
    NAME_PATTERN,
    REASONS,
    LabelSet,
    LabelSetStore,
    LimitError,
    StoreError,
    is_name,
)
from service.errors import ApiError
from service.metrics import Metrics
from service.schema.answers import LabelSetSummary
from service.settings import MAX_LABEL_SETS, Settings

__all__ = ["NAME_PATTERN", "LabelSet", "LabelSets", "is_name"]

log = logging.getLogger(__name__)
T = TypeVar("T")
FRESH_S = 1.0  # how long a cached label set is used without asking whether another replica changed it
CHECK_S = 0.2  # timeout of asking whether a cached label set has changed
READ_S = 2.0  # timeout of every other read
WRITE_S = 10.0  # timeout of a write: many may come at once, and the store takes one at a time
CONNECTIONS = 8
CACHE_BYTES = 64 * 2**20


@dataclass(slots=True)
class _CachedLabelSet:
    label_set: LabelSet
    version: str
    checked: float  # on the monotonic clock
    changes: Sequence[int]  # by each worker, before it was read or written


class LabelSets:
    """In Redis where it is configured, else in files. What this process has cached it uses while the store is down."""

    def __init__(self, settings: Settings, metrics: Metrics, row: Row | None = None) -> None:
        """`row` is where this process counts its changes, for the other workers; without one, it is alone."""
        self._store = _open_store(settings)
        self._row = row or Board.of_one().row(0)
        self._redis_errors = None if settings.redis_url is None else metrics.redis_errors
        # From the start at 0: of a counter that appears with its first failure, Prometheus sees no increase.
        self._errors = {kind: metrics.label_set_errors.labels(kind) for kind in REASONS}
        self._cached: LRUCache[str, _CachedLabelSet] = LRUCache(CACHE_BYTES, getsizeof=_size)
        self._failing = False

    async def find(self, name: str, param: str) -> LabelSet:
        """The label set of that name, as workers of this service left it, and others at most FRESH_S ago.

        Raises ApiError `label_set_not_found`, or `unavailable` when it is not cached and the store is down.
        """
        if not is_name(name):
            raise _not_found(param)
        cached = self._cached.get(name)
        if cached is not None and cached.changes == self._changes() and time.monotonic() - cached.checked < FRESH_S:
            return cached.label_set
        found = await (self._fetch(name) if cached is None else self._refresh(cached))
        if found is None:
            raise _not_found(param)
        return found

    async def list(self) -> tuple[Sequence[LabelSetSummary], int]:
        """All of them, sorted by name, and how many entries of the store are not label sets."""
        found, skipped = await self._call(self._store.summaries())
        return sorted(found, key=lambda summary: summary.name), skipped

    async def check_capacity(self, name: str) -> None:
        """Raise ApiError `too_many_inputs` where that name is new and MAX_LABEL_SETS are stored."""
        names = await self._call(self._store.names())
        if name not in names and len(names) >= MAX_LABEL_SETS:
            raise _too_many(len(names))

    async def put(self, label_set: LabelSet) -> bool:
        """Store it, replacing one of the same name; returns whether it is new. Raises ApiError `too_many_inputs`."""
        changes = self._changes()
        try:
            is_new, version = await self._call(self._store.write(label_set, MAX_LABEL_SETS), WRITE_S)
        except LimitError as error:  # others came while this one was embedded
            raise _too_many(error.count) from None
        finally:
            self._record_change()  # also of what has failed: it may have been written, or will be
        self._cache(label_set, version, changes)
        return is_new

    async def remove(self, name: str) -> None:
        """Remove it. Raises ApiError `label_set_not_found`."""
        # A store that is down is best noticed by reading: what it is told to write, it may still do later.
        if name not in await self._call(self._store.names()):
            raise _not_found("name")
        try:
            if not await self._call(self._store.remove(name), WRITE_S):
                raise _not_found("name")
        finally:
            self._record_change()
        self._cached.pop(name, None)

    async def check(self) -> None:
        """At the start: log it if label sets cannot be read or stored."""
        with suppress(StoreError):  # logged by _with_timeout
            await self._with_timeout(self._store.check(), READ_S)

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()

    def _changes(self) -> Sequence[int]:
        """Differs once any worker of this service has stored or removed a set."""
        return self._row.board.column(Field.LABEL_SET_CHANGES)

    def _record_change(self) -> None:
        self._row.add(Field.LABEL_SET_CHANGES, 1)

    async def _refresh(self, cached: _CachedLabelSet) -> LabelSet | None:
        cached.checked = time.monotonic()  # those who come meanwhile do not ask too, unless a worker has changed a set
        name, changes = cached.label_set.name, self._changes()
        try:
            version = await self._with_timeout(self._store.version(name), CHECK_S)
            if version == cached.version:
                cached.changes = changes
                return cached.label_set
            if version is not None:
                return await self._with_timeout(self._read(name), READ_S)
        except StoreError:
            cached.changes = changes  # not every request is to wait for a store that is down
            return cached.label_set
        self._cached.pop(name, None)
        return None

    async def _fetch(self, name: str) -> LabelSet | None:
        return await self._call(self._read(name))

    async def _read(self, name: str) -> LabelSet | None:
        before, changes = self._cached.get(name), self._changes()
        found = await self._store.read(name)
        if found is not None and self._cached.get(name) is before:  # else somebody stored a newer one meanwhile
            self._cache(*found, changes)
        return None if found is None else found[0]

    def _cache(self, label_set: LabelSet, version: str, changes: Sequence[int]) -> None:
        cached = _CachedLabelSet(label_set, version, time.monotonic(), changes)
        if _size(cached) <= CACHE_BYTES:
            self._cached[label_set.name] = cached

    async def _call(self, work: Awaitable[T], timeout_s: float = READ_S) -> T:
        try:
            return await self._with_timeout(work, timeout_s)
        except StoreError as error:
            message = f"Label sets cannot be read or stored at the moment: {REASONS[error.kind]}; try again."
            raise ApiError("unavailable", message) from None

    async def _with_timeout(self, work: Awaitable[T], timeout_s: float) -> T:
        """Await and record a failure. Raises StoreError, also after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await work
        except (StoreError, TimeoutError) as error:
            if isinstance(error, StoreError):
                self._record_failure(error)
                raise
            late = ("timeout", "label sets: no answer in time")
            self._record_failure(StoreError(*late))
            raise StoreError(*late) from None
        self._failing = False
        return answer

    def _record_failure(self, error: StoreError) -> None:
        self._errors[error.kind].inc()
        if self._redis_errors is not None:
            self._redis_errors.labels(error.kind).inc()
        log.log(logging.DEBUG if self._failing else logging.ERROR, "%s", error)
        self._failing = True


def _open_store(settings: Settings) -> LabelSetStore:
    if settings.redis_url is None:
        return FileStore(settings.label_sets)
    # As in service.cache.tiers: only for those who have Redis.
    from service.cache.connection import connect
    from service.classification.label_sets.redis_store import RedisStore

    return RedisStore(connect(settings.redis_url, connections=CONNECTIONS), settings.redis_prefix)


def _size(cached: _CachedLabelSet) -> int:
    label_set = cached.label_set
    return 100 * len(label_set.labels) + sum(map(len, label_set.labels)) + sum(map(len, label_set.templates))


def _too_many(count: int) -> ApiError:
    message = f"There are {count} label sets, and there can be {MAX_LABEL_SETS}; remove one first."
    return ApiError("too_many_inputs", message, "name")


def _not_found(param: str) -> ApiError:
    return ApiError("label_set_not_found", "There is no label set of this name; GET /label-sets lists them.", param)
