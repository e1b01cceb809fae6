"""The parent of workers and their ends: what one held is all that its death costs, and all end as one service."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, starting
from tests.service.several_workers import COUNT, several, starts, wait_until, workers_of
from tests.service.test_lifecycle import start, wait_for_draining

CLIENTS = 8


class Load:
    """What clients get who ask again and again."""

    def __init__(self, service: Running) -> None:
        self.outcomes: Counter[int | str] = Counter()
        self._service, self._lock, self._stopping = service, threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._service.url, timeout=PATIENCE_S) as http:
            while not self._stopping.is_set():
                try:
                    outcome: int | str = http.post("/embed", json={"inputs": ["a cat", "a dog"]}).status_code
                except httpx.TransportError:
                    outcome = "lost"
                with self._lock:
                    self.outcomes[outcome] += 1

    def more(self, answers: int = 50) -> None:
        """Wait for so many more good ones."""
        before = self.outcomes[200]
        wait_until(lambda: self.outcomes[200] >= before + answers)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(service: Running) -> Iterator[Load]:
    clients = Load(service)
    try:
        yield clients
    finally:
        clients.stop()


def test_what_one_held_is_all_that_its_death_costs(bundle_path: Path, tmp_path: Path) -> None:
    """Killed, ended by its signal, and stopped for ever, it is replaced; when the parent is killed, they all end."""
    module = "tests.service.impatient_parent"
    with several(tmp_path, bundle_path, module=module) as service, load(service) as clients:
        clients.more()
        workers_of(service)[0].kill()
        wait_until(lambda: starts(service) == COUNT + 1)
        clients.more()
        assert clients.outcomes["lost"] <= CLIENTS  # each had at most one request on it
        killed = clients.outcomes["lost"]
        workers_of(service)[0].terminate()  # the one that was there before
        wait_until(lambda: starts(service) == COUNT + 2)
        clients.more()
        assert clients.outcomes["lost"] == killed
        workers_of(service)[0].suspend()
        wait_until(lambda: starts(service) == COUNT + 3)
        clients.more()
        clients.stop()
        assert clients.outcomes.keys() <= {200, "lost"}
        assert clients.outcomes["lost"] <= killed + CLIENTS
        for line in ("ended by SIGKILL", "ended with exit code 0", "has not answered for"):
            assert line in service.log()
        workers = workers_of(service)
        assert len(workers) == COUNT
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
        assert service.log().count("the parent process is gone") == COUNT


def test_one_that_hangs_before_it_listens_is_replaced(bundle_path: Path, tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    module = f"tests.service.hanging_worker {hang}"
    with several(tmp_path, bundle_path, module=module) as service, load(service) as clients:
        clients.more()
        hang.touch()
        workers_of(service)[0].kill()
        wait_until(lambda: "has not begun to listen within" in service.log())
        wait_until(lambda: service.log().count("ended by SIGKILL") >= 2)  # that of this test, and the one that hung
        clients.more()
        hang.unlink()
        wait_until(lambda: starts(service) == COUNT + 1)
        clients.more()
        assert clients.outcomes["lost"] <= CLIENTS
        assert clients.outcomes.keys() <= {200, "lost"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_under_load_loses_nothing_accepted(
    bundle_path: Path, tmp_path: Path, number: int
) -> None:
    """As systemd and Ctrl-C send it: to the workers, and to the parent, which tells them again."""
    with several(tmp_path, bundle_path, before=os.setpgrp) as service, load(service) as clients:
        clients.more()
        os.killpg(service.process.pid, number)
        wait_for_draining(service.url)
        clients.more()
        draining = httpx.post(f"{service.url}/embed", json={"inputs": "still served"}, timeout=60)
        assert (draining.status_code, draining.headers["connection"]) == (200, "close")
        clients.stop()
        assert set(clients.outcomes) == {200}
        assert service.process.wait(30) == 0
        assert "Traceback" not in service.log()


def test_a_second_signal_ends_it_at_once(bundle_path: Path, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    module = f"tests.service.held_service {hold}"
    with several(tmp_path, bundle_path, module=module, drain_s="600", cache_bytes="0") as service:
        hold.touch()
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(ask(service)))
        asking.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        wait_for_draining(service.url)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(60)
        assert time.monotonic() - began < 30
        asking.join()
        assert answers
        assert answers[0] != 200


def ask(service: Running) -> int | str:
    try:
        return httpx.post(f"{service.url}/embed", json={"inputs": "a text"}, timeout=PATIENCE_S).status_code
    except httpx.TransportError:
        return "lost"


def test_a_start_that_cannot_succeed_tells_why_once(bundle_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_path, tmp_path / "altered")
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8").replace("cat", "car", 1), "utf-8")
    outcome = start(folder=tmp_path, model=str(copy), workers="3")
    assert outcome.returncode == 1
    assert outcome.stderr.count("cannot start: ") == outcome.stderr.count("tokenizer.json") == 1
    assert "worker 0 has ended with exit code 1 before it was ready" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_where_none_can_take_the_place_of_those_that_died_the_service_ends(bundle_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_path, tmp_path / "copy")
    with several(tmp_path, copy) as service:
        (copy / "bundle.json").write_text("{}")
        one, other = workers_of(service)
        one.kill()
        wait_until(lambda: "another is started in" in service.log())
        assert httpx.post(f"{service.url}/embed", json={"inputs": "a"}, timeout=PATIENCE_S).status_code == 200
        assert service.process.poll() is None  # while the other serves
        other.kill()
        assert service.process.wait(60) == 1
        assert "no other is ready" in service.log()


def test_a_model_that_fails_ends_its_worker_alone(bundle_path: Path, tmp_path: Path) -> None:
    module = "tests.service.failing_service always"
    with several(tmp_path, bundle_path, module=module, cache_bytes="0") as service:
        url, number = f"{service.url}/embed", 0
        while starts(service) == COUNT:
            status = httpx.post(url, json={"inputs": f"text {number}"}, timeout=PATIENCE_S).status_code
            assert status in (200, 500, 503)
            number += 1
        assert "fails again after its engine was opened anew" in service.log()
        assert "has ended with exit code 1: another is started" in service.log()
        assert service.process.poll() is None


def test_sigterm_while_it_loads(bundle_path: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with starting(tmp_path, bundle_path, module=f"tests.service.failing_service {go}", workers="2") as service:
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        go.touch()
        assert service.process.wait(30) == 0
