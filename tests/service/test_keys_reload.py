"""Keys that change while requests come: no good one is refused, and one that was removed is never let in again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.keys import Keys, read_key_file
from service.settings import Settings, SettingsError

KEPT, COMES_AND_GOES, ADMIN = (f"{name}-0123456789abcdef" for name in ("kept", "comes-and-goes", "admin"))
ROUNDS = 20
SENDERS = 4


@pytest.fixture(scope="module")
def guarded(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    file = folder / "keys"
    file.write_text(f"{KEPT}\n")
    with running(folder, bundle_path, api_keys_file=str(file), admin_key=ADMIN, queue_items="100") as service:
        yield service, file


def put_in_place(file: Path, *keys: str) -> None:
    """As whoever is careful writes it: the service never sees half of it."""
    draft = file.with_suffix(".draft")
    draft.write_text("".join(f"{key}\n" for key in keys))
    draft.replace(file)


@contextmanager
def under_load(service: Running) -> Iterator[list[int]]:
    """Requests with a good key, one after the other on each of several connections; yields their statuses."""
    statuses: list[int] = []
    ends = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=PATIENCE_S, headers={"x-api-key": KEPT}) as client:
            while not ends.is_set():
                statuses.append(client.post(f"{service.url}/embed", json={"inputs": "a cat"}).status_code)

    with ThreadPoolExecutor(SENDERS) as pool:
        senders = [pool.submit(send) for _ in range(SENDERS)]
        try:
            yield statuses
        finally:
            ends.set()
        for sender in senders:
            sender.result()


def reload(service: Running) -> dict[str, Any]:
    answer = httpx.post(f"{service.url}/admin/reload", headers={"x-api-key": ADMIN}, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_keys_change_under_load(guarded: tuple[Running, Path]) -> None:
    service, file = guarded
    with under_load(service) as statuses, httpx.Client(timeout=PATIENCE_S) as client:
        for number in range(ROUNDS):
            present = number % 2 == 0
            put_in_place(file, KEPT, *([COMES_AND_GOES] if present else []))
            for _ in range(number % 4):  # others reload at the same moment
                service.process.send_signal(signal.SIGHUP)
            assert "api_keys_problem" not in reload(service)
            for _ in range(5):
                answer = client.get(f"{service.url}/models", headers={"x-api-key": COMES_AND_GOES})
                assert answer.status_code == (200 if present else 401)
    assert len(statuses) > ROUNDS
    assert set(statuses) == {200}


def test_the_answer_says_that_the_keys_are_those_from_before(guarded: tuple[Running, Path]) -> None:
    service, file = guarded
    try:
        for lay in (file.unlink, lambda: file.write_text(""), lambda: (file.unlink(), os.mkfifo(file))):
            lay()
            problem = reload(service)["api_keys_problem"]
            assert problem.startswith("The API keys are those from before: ")
            assert str(file.parent) not in problem
            answer = httpx.get(f"{service.url}/models", headers={"x-api-key": KEPT}, timeout=PATIENCE_S)
            assert answer.status_code == 200
    finally:
        put_in_place(file, KEPT)
    assert "api_keys_problem" not in reload(service)


def test_a_fifo_does_not_hold_up_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(SettingsError, match="it is a FIFO"):
        Keys(Settings.read({"api_keys_file": tmp_path / "keys"}))


def test_a_link_to_the_keys_is_followed(tmp_path: Path) -> None:
    """Kubernetes lays secrets so."""
    (tmp_path / "data").write_text(f"{KEPT}\n")
    (tmp_path / "keys").symlink_to("data")
    assert Keys(Settings.read({"api_keys_file": tmp_path / "keys"})).is_client(KEPT.encode())


class Held:
    """A file system on which one reading takes until it is let go."""

    def __init__(self) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.hold_next = False

    def read(self, path: Path) -> list[str]:
        content = read_key_file(path)
        if self.hold_next:
            self.hold_next = False
            self.reading.set()
            assert self.go_on.wait(PATIENCE_S)
        return content


def test_a_reload_that_began_earlier_and_ends_later_brings_no_key_back(tmp_path: Path) -> None:
    file, held = tmp_path / "keys", Held()
    put_in_place(file, KEPT, COMES_AND_GOES)
    keys = Keys(Settings.read({"api_keys_file": file}), read_file=held.read)

    async def scenario() -> None:
        held.hold_next = True
        earlier = asyncio.create_task(keys.reload())
        await asyncio.to_thread(held.reading.wait, PATIENCE_S)
        put_in_place(file, KEPT)
        later = asyncio.create_task(keys.reload())
        await asyncio.sleep(0.1)
        held.go_on.set()
        await asyncio.gather(earlier, later)

    asyncio.run(scenario())
    assert keys.is_client(KEPT.encode())
    assert not keys.is_client(COMES_AND_GOES.encode())


def test_a_file_system_that_does_not_answer_ends_the_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, held = tmp_path / "keys", Held()
    put_in_place(file, KEPT)
    keys = Keys(Settings.read({"api_keys_file": file}), read_file=held.read, read_timeout_s=0.2)
    held.hold_next = True
    asyncio.run(keys.reload())  # which also waits for the threads of its own pool
    assert keys.problem == "The API keys are those from before: the file was not read within 0.2 s."
    assert keys.is_client(KEPT.encode())
    held.go_on.set()
    assert "was not read within 0.2 s" in caplog.text
