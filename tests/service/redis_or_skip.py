"""A Redis server for a test, which is skipped where there is none to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.redis_server import RedisNotInstalledError, RedisServer, find_executable
from benchmarks.redis_server import redis_server as started


@contextmanager
def redis_server(folder: Path, *flags: str, password: str | None = None) -> Iterator[RedisServer]:
    """A started one; without `redis-server`, the test is skipped."""
    try:
        find_executable()
    except RedisNotInstalledError as error:
        pytest.skip(str(error))
    with started(folder, *flags, password=password) as server:
        yield server
