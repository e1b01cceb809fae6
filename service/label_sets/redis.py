"""Label sets in Redis, shared by all replicas. They have no time to live: no eviction of `volatile-...` takes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.cache.redis import kind_of
from service.label_sets.store import LabelSet, StoreError, decode, is_name
from service.schema.answers import LabelSetSummary

log = logging.getLogger(__name__)


class RedisStore:
    """Two hashes by name: the label sets, and their summaries, which serve as versions too. Callers bound the time."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._documents, self._summaries = f"{prefix}label-sets", f"{prefix}label-set-summaries"

    async def names(self) -> set[str]:
        """The names that are taken."""
        [names] = await self._do(("HKEYS", self._summaries))
        return {name.decode("utf-8", "replace") for name in names}

    async def summaries(self) -> Sequence[LabelSetSummary]:
        """All label sets but their labels."""
        [pairs] = await self._do(("HGETALL", self._summaries))
        found = (_summary(name, summary) for name, summary in pairs.items())
        return [summary for summary in found if summary is not None]

    async def version(self, name: str) -> str | None:
        """The summary as it is stored."""
        [summary] = await self._do(("HGET", self._summaries, name))
        return None if summary is None else summary.decode("latin-1")

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """Both entries at the same moment."""
        document, summary = await self._do(("HGET", self._documents, name), ("HGET", self._summaries, name))
        if document is None or summary is None:
            return None
        try:
            return await asyncio.to_thread(decode, name, document), summary.decode("latin-1")
        except ValueError as error:
            log.warning("%s %s in Redis is not a label set and is left alone: %s", self._documents, name, error)
            return None

    async def write(self, label_set: LabelSet) -> tuple[bool, str]:
        """Both entries or none."""
        document = await asyncio.to_thread(label_set.encode)
        summary = label_set.summary().model_dump_json()
        added, _ = await self._do(
            ("HSET", self._summaries, label_set.name, summary), ("HSET", self._documents, label_set.name, document)
        )
        return bool(added), summary

    async def remove(self, name: str) -> bool:
        """Both entries."""
        removed, _ = await self._do(("HDEL", self._summaries, name), ("HDEL", self._documents, name))
        return bool(removed)

    async def aclose(self) -> None:
        """End the connections."""
        await self._redis.aclose()

    async def _do(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        """The answers to the commands, which are done together or not at all."""
        try:
            pipeline = self._redis.pipeline(transaction=len(commands) > 1)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreError(kind_of(error), f"Redis does not keep the label sets: {kind_of(error)}") from error
        return answers


def _summary(name: bytes, summary: bytes) -> LabelSetSummary | None:
    try:
        found = LabelSetSummary.model_validate_json(summary)
    except ValidationError:
        return None
    return found if is_name(found.name) and found.name.encode() == name else None
