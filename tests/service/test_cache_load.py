"""Redis dies and comes back in the middle of load: no request fails, and the service finds it again by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, Running

LOOKUPS = "sightword_cache_lookups_total"
CLIENTS = 6


class Load:
    """Clients that send texts nobody sent before, and one that everybody does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: list[int] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as http:
            while not self._ending.is_set():
                answer = http.post("/embed", json={"inputs": [f"a text {os.urandom(8).hex()}", "the common one"]})
                self.statuses.append(answer.status_code)

    def passes(self, requests: int) -> None:
        """Return when so many more were answered."""
        wanted = len(self.statuses) + requests
        until(lambda: len(self.statuses) >= wanted)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in self._threads:
                thread.join()


def until(met: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("fail", "mend"), [("kill", "start"), ("pause", "resume")], ids=["killed and started", "stopped and continued"]
)
def test_redis_fails_under_load(cached: Running, redis: RedisServer, fail: str, mend: str) -> None:
    until(lambda: cached.metric("sightword_redis_up") == 1)
    load = Load(cached.url)
    with load.running():
        load.passes(4 * CLIENTS)
        getattr(redis, fail)()
        load.passes(4 * CLIENTS)
        until(lambda: cached.metric("sightword_redis_up") == 0)
        skipped = cached.metric(LOOKUPS, tier="redis", outcome="skipped")
        load.passes(4 * CLIENTS)
        assert cached.metric(LOOKUPS, tier="redis", outcome="skipped") > skipped
        assert httpx.get(f"{cached.url}/health/ready", timeout=PATIENCE_S).status_code == 200
        getattr(redis, mend)()
        until(lambda: cached.metric("sightword_redis_up") == 1)
        with redis.client() as client:
            kept = client.dbsize()
            until(lambda: client.dbsize() > kept)  # what is new is stored again
        load.passes(4 * CLIENTS)
    assert set(load.statuses) == {200}
    assert sum(cached.metric("sightword_redis_errors_total", kind=kind) for kind in ("connection", "timeout")) > 0


def test_the_log_tells_each_change_once_and_nothing_else_went_wrong(cached: Running) -> None:
    log = cached.log()
    assert log.count("Redis fails") == log.count("Redis answers again")
    assert log.count("Redis fails") < 10
    for trace in ("Traceback", "never retrieved", "never awaited", "Task was destroyed"):
        assert trace not in log


def test_the_end_stores_what_is_queued(cached: Running, redis: RedisServer) -> None:
    """Ends the service of this file."""
    with redis.client() as client:
        before = client.dbsize()
        texts = [f"text number {number}" for number in range(200)]
        answer = httpx.post(f"{cached.url}/embed", json={"inputs": texts}, timeout=PATIENCE_S)
        assert answer.status_code == 200
        assert cached.stop() == 0
        assert client.dbsize() == before + len(texts)
    assert "Traceback" not in cached.log()
