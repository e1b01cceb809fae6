"""Several worker processes on one port: they share what comes in, and whatever happens to one costs only its own."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.http.listener import SLACK

COUNT = 2


@contextmanager
def several(folder: Path, bundle: Path, count: int = COUNT, **options: Any) -> Iterator[Running]:
    """The service, once all workers are ready."""
    with running(folder, bundle, workers=str(count), timeout_s="300", **options) as service:
        wait_until(lambda: service.log().count("ready after") == count)
        yield service


@pytest.fixture(scope="module")
def pair(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with several(tmp_path_factory.mktemp("pair"), bundle_path) as service:
        yield service


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def workers_of(service: Running) -> list[psutil.Process]:
    """In the order in which they were started."""
    return sorted(psutil.Process(service.process.pid).children(), key=psutil.Process.create_time)


def connections_of(worker: psutil.Process) -> int:
    return sum(each.status == psutil.CONN_ESTABLISHED for each in worker.net_connections("tcp"))


def test_kept_connections_are_spread_evenly(pair: Running) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            client = stack.enter_context(httpx.Client(base_url=pair.url, timeout=PATIENCE_S))
            assert client.post("/embed", json={"inputs": "a cat"}).status_code == 200
        counts = [connections_of(worker) for worker in workers_of(pair)]
    assert sum(counts) == 64
    # Where the machine is busy, one may have had no turn for a while.
    assert max(counts) - min(counts) <= 8 + 2 * SLACK, counts


def test_what_one_held_is_all_that_its_death_costs(bundle_path: Path, tmp_path: Path) -> None:
    with several(tmp_path, bundle_path) as service:
        outcomes: Counter[int | str] = Counter()
        lock, stopping = threading.Lock(), threading.Event()

        def client() -> None:
            with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
                while not stopping.is_set():
                    try:
                        outcome: int | str = http.post("/embed", json={"inputs": ["a cat", "a dog"]}).status_code
                    except httpx.TransportError:
                        outcome = "lost"
                    with lock:
                        outcomes[outcome] += 1

        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        wait_until(lambda: outcomes[200] >= 50)
        victim = workers_of(service)[0]
        victim.send_signal(signal.SIGKILL)
        wait_until(lambda: service.log().count("ready after") == COUNT + 1)
        before = outcomes[200]
        wait_until(lambda: outcomes[200] >= before + 50)
        stopping.set()
        for thread in clients:
            thread.join()
        assert outcomes.keys() <= {200, "lost"}
        assert 0 < outcomes["lost"] <= 8  # each client had at most one request on it
        assert "ended by SIGKILL" in service.log()
        assert len(workers_of(service)) == COUNT
        assert service.stop() == 0
