"""Label sets: stored where the operator said, remembered here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from cachetools import LRUCache

from service.classification.label_sets.files import FilesStore
from service.classification.label_sets.store import (
    NAME_PATTERN,
    REASONS,
    LabelSet,
    LimitError,
    Store,
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
FRESH_S = 1.0  # what another replica changed is seen so much later
CHECK_S = 0.2  # for the question whether a label set that is known here has changed
ANSWER_S = 2.0  # for everything else that is read
WRITE_S = 10.0  # many may write at once, and the store takes one at a time; whether it answers, reading has shown
CONNECTIONS = 8
REMEMBERED_BYTES = 64 * 2**20


@dataclass(slots=True)
class _Seen:
    label_set: LabelSet
    version: str
    checked: float  # on the monotonic clock


class LabelSets:
    """In Redis if there is one, else in files. What this process has seen it can use while the store is down."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._store = _store(settings)
        self._redis_errors = None if settings.redis_url is None else metrics.redis_errors
        # From the start at 0: of a counter that appears with its first failure, Prometheus sees no increase.
        self._errors = {kind: metrics.label_set_errors.labels(kind) for kind in REASONS}
        self._seen: LRUCache[str, _Seen] = LRUCache(REMEMBERED_BYTES, getsizeof=_size)
        self._failing = False

    async def find(self, name: str, param: str) -> LabelSet:
        """The label set of that name, as it was at most `FRESH_S` ago.

        Raises `label_set_not_found`, or `unavailable` when it is not known here and the store is down.
        """
        if not is_name(name):
            raise _not_found(param)
        seen = self._seen.get(name)
        if seen is not None and time.monotonic() - seen.checked < FRESH_S:
            return seen.label_set
        found = await (self._fetch(name) if seen is None else self._check(seen))
        if found is None:
            raise _not_found(param)
        return found

    async def list(self) -> tuple[Sequence[LabelSetSummary], int]:
        """All of them, by name, and how many entries of the store are none."""
        found, skipped = await self._ask(self._store.summaries())
        return sorted(found, key=lambda summary: summary.name), skipped

    async def expect_room(self, name: str) -> None:
        """Raise `too_many_inputs` if there is no room for one more."""
        names = await self._ask(self._store.names())
        if name not in names and len(names) >= MAX_LABEL_SETS:
            raise _no_room(len(names))

    async def put(self, label_set: LabelSet) -> bool:
        """Store it in the place of what had its name; gives whether it is new. Raises `too_many_inputs`."""
        try:
            is_new, version = await self._ask(self._store.write(label_set, MAX_LABEL_SETS), WRITE_S)
        except LimitError as error:  # others came while this one was embedded
            raise _no_room(error.count) from None
        self._remember(label_set, version)
        return is_new

    async def remove(self, name: str) -> None:
        """Forget it. Raises `label_set_not_found`."""
        # A store that is down is best noticed by reading: what it is told to write, it may still do later.
        if name not in await self._ask(self._store.names()) or not await self._ask(self._store.remove(name), WRITE_S):
            raise _not_found("name")
        self._seen.pop(name, None)

    async def check(self) -> None:
        """At the start: tell the log if label sets cannot be read or stored."""
        with suppress(StoreError):  # which is in the log then
            await self._bounded(self._store.check(), ANSWER_S)

    async def aclose(self) -> None:
        """End the connections."""
        await self._store.aclose()

    async def _check(self, seen: _Seen) -> LabelSet | None:
        seen.checked = time.monotonic()  # those who come meanwhile do not ask too
        name = seen.label_set.name
        try:
            version = await self._bounded(self._store.version(name), CHECK_S)
            if version == seen.version:
                return seen.label_set
            if version is not None:
                return await self._bounded(self._read(name), ANSWER_S)
        except StoreError:
            return seen.label_set
        self._seen.pop(name, None)
        return None

    async def _fetch(self, name: str) -> LabelSet | None:
        return await self._ask(self._read(name))

    async def _read(self, name: str) -> LabelSet | None:
        before = self._seen.get(name)
        found = await self._store.read(name)
        if found is not None and self._seen.get(name) is before:  # else somebody stored a newer one meanwhile
            self._remember(*found)
        return None if found is None else found[0]

    def _remember(self, label_set: LabelSet, version: str) -> None:
        seen = _Seen(label_set, version, time.monotonic())
        if _size(seen) <= REMEMBERED_BYTES:
            self._seen[label_set.name] = seen

    async def _ask(self, work: Awaitable[T], most_s: float = ANSWER_S) -> T:
        try:
            return await self._bounded(work, most_s)
        except StoreError as error:
            message = f"Label sets cannot be read or stored at the moment: {REASONS[error.kind]}; try again."
            raise ApiError("unavailable", message) from None

    async def _bounded(self, work: Awaitable[T], most_s: float) -> T:
        """Raises StoreError, also when it takes too long."""
        try:
            async with asyncio.timeout(most_s):
                answer = await work
        except (StoreError, TimeoutError) as error:
            if isinstance(error, StoreError):
                self._note(error)
                raise
            late = ("timeout", "label sets: no answer in time")
            self._note(StoreError(*late))
            raise StoreError(*late) from None
        self._failing = False
        return answer

    def _note(self, error: StoreError) -> None:
        self._errors[error.kind].inc()
        if self._redis_errors is not None:
            self._redis_errors.labels(error.kind).inc()
        log.log(logging.DEBUG if self._failing else logging.ERROR, "%s", error)
        self._failing = True


def _store(settings: Settings) -> Store:
    if settings.redis_url is None:
        return FilesStore(settings.label_sets)
    # As in service.cache.tiers: only for those who have Redis.
    from service.cache.redis import connect
    from service.classification.label_sets.redis import RedisStore

    return RedisStore(connect(settings.redis_url, connections=CONNECTIONS), settings.redis_prefix)


def _size(seen: _Seen) -> int:
    label_set = seen.label_set
    return 100 * len(label_set.labels) + sum(map(len, label_set.labels)) + sum(map(len, label_set.templates))


def _no_room(count: int) -> ApiError:
    message = f"There are {count} label sets, and there can be {MAX_LABEL_SETS}; remove one first."
    return ApiError("too_many_inputs", message, "name")


def _not_found(param: str) -> ApiError:
    return ApiError("label_set_not_found", "There is no label set of this name; GET /label-sets lists them.", param)
