"""Label sets in Redis, shared by all replicas; without a time to live, so that no `volatile-...` policy evicts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.cache.connection import describe_failure, error_kind
from service.classification.label_sets.store import (
    MAX_DOCUMENT_BYTES,
    LabelSet,
    LimitError,
    StoreError,
    decode,
    is_name,
)
from service.schema.answers import LabelSetSummary

log = logging.getLogger(__name__)
# A script is atomic: no two replicas take the last free entry. Returns [is new, count before], with -1 for a new label
# set beyond the limit. Redis refuses for want of memory at the first HSET, so that both are written or none.
_WRITE = """
local is_new, count = 1 - redis.call('HEXISTS', KEYS[1], ARGV[1]), redis.call('HLEN', KEYS[1])
if is_new == 1 and count >= tonumber(ARGV[2]) then return {-1, count} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {is_new, count}
"""


class RedisStore:
    """Two hashes by name: the label sets, and their summaries, which are the versions too. Callers set the timeouts."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._documents, self._summaries = f"{prefix}label-sets", f"{prefix}label-set-summaries"

    async def names(self) -> set[str]:
        """The names in use."""
        [names] = await self._execute(("HKEYS", self._summaries))
        return {name.decode("utf-8", "replace") for name in names}

    async def summaries(self) -> tuple[Sequence[LabelSetSummary], int]:
        """The summaries of all label sets."""
        [pairs] = await self._execute(("HGETALL", self._summaries))
        found = [found for name, summary in pairs.items() if (found := _summary(name, summary)) is not None]
        return found, len(pairs) - len(found)

    async def version(self, name: str) -> str | None:
        """The summary as it is stored."""
        [summary] = await self._execute(("HGET", self._summaries, name))
        return None if summary is None else summary.decode("latin-1")

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """Read both entries in one transaction."""
        [size] = await self._execute(("HSTRLEN", self._documents, name))
        if size > MAX_DOCUMENT_BYTES:
            log.warning("%s %s in Redis is too large for a label set and is left alone", self._documents, name)
            return None
        document, summary = await self._execute(("HGET", self._documents, name), ("HGET", self._summaries, name))
        if document is None or summary is None:
            return None
        try:
            return await asyncio.to_thread(decode, name, document), summary.decode("latin-1")
        except ValueError as error:
            log.warning("%s %s in Redis is not a label set and is left alone: %s", self._documents, name, error)
            return None

    async def write(self, label_set: LabelSet, limit: int) -> tuple[bool, str]:
        """Write both entries or none. Raises LimitError."""
        document = await asyncio.to_thread(label_set.encode)
        summary = label_set.summary().model_dump_json()
        is_new, count = await self._run_write(label_set.name, limit, summary, document)
        if is_new < 0:
            raise LimitError(count)
        return bool(is_new), summary

    async def _run_write(self, name: str, limit: int, summary: str, document: bytes) -> tuple[int, int]:
        keys = (self._summaries, self._documents)
        [(is_new, count)] = await self._execute(("EVAL", _WRITE, "2", *keys, name, str(limit), summary, document))
        return is_new, count

    async def remove(self, name: str) -> bool:
        """Remove both entries."""
        removed, _ = await self._execute(("HDEL", self._summaries, name), ("HDEL", self._documents, name))
        return bool(removed)

    async def check(self) -> None:
        """List, and run the script with a limit of 0, so that it writes nothing."""
        await self._execute(("HKEYS", self._summaries))
        await self._run_write("", 0, "", b"")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _execute(self, *commands: tuple[str | bytes, ...]) -> list[Any]:
        """The replies to the commands, which are run in one transaction. Raises StoreError."""
        try:
            pipeline = self._redis.pipeline(transaction=len(commands) > 1)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            reason = describe_failure(error, self._redis)
            raise StoreError(error_kind(error), f"Redis does not keep the label sets: {reason}") from error
        return answers


def _summary(name: bytes, summary: bytes) -> LabelSetSummary | None:
    try:
        found = LabelSetSummary.model_validate_json(summary)
    except ValidationError:
        return None
    return found if is_name(found.name) and found.name.encode() == name else None
