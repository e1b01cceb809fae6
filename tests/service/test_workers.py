"""Several worker processes on one port: they share what comes in and the limits, and have their parent's settings."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from benchmarks.inputs import jpeg_files
from benchmarks.service_process import PATIENCE_S, Running, clean_environment, starting
from model.runtime.processor import usable_cores
from service.http.connection_limits import ConnectionLimits
from service.settings import Settings, SettingsError
from service.starting import count_workers
from service.workers import process
from service.workers.handover import Handover, command, take, to_hand_down
from tests.service.several_workers import COUNT, several, wait_until, workers_of

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "0123456789abcdef0123456789abcdef"
QUEUE_ITEMS = 16


@pytest.fixture(scope="module")
def pair(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its admin key is on its command line, where it should not be."""
    folder = tmp_path_factory.mktemp("pair")
    with several(folder, bundle_path, module=f"service --admin-key {ADMIN_KEY}") as service:
        yield service


def local_ports(worker: psutil.Process) -> set[int]:
    """Of the clients that it is connected to."""
    connections = worker.net_connections("tcp")
    return {each.raddr.port for each in connections if each.status == psutil.CONN_ESTABLISHED}


def test_kept_connections_are_spread_evenly(pair: Running) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            client = stack.enter_context(httpx.Client(base_url=pair.url, timeout=PATIENCE_S))
            assert client.post("/embed", json={"inputs": "a cat"}).status_code == 200
        counts = [len(local_ports(worker)) for worker in workers_of(pair)]
    assert sum(counts) == 64
    assert max(counts) - min(counts) <= 16, counts  # where the machine is busy, one may have had no turn for a while


def test_info_tells_how_many_there_are(pair: Running) -> None:
    info = httpx.get(f"{pair.url}/info", timeout=PATIENCE_S).json()
    assert (info["workers"], info["settings"]["workers"]) == (COUNT, COUNT)
    assert info["limits"]["max_connections"] == COUNT * ConnectionLimits.of_this_process().max_connections


def test_threads_are_no_more_than_the_document_says(pair: Running) -> None:
    """At rest, with one model, on the cores of this machine, of which each worker has at least one."""
    for number in range(32):
        picture = jpeg_files(1, seed=number)[0]
        httpx.post(f"{pair.url}/embed", content=picture, headers={"content-type": "image/jpeg"}, timeout=PATIENCE_S)
    processes = [psutil.Process(pair.process.pid), *workers_of(pair)]
    cores = max(usable_cores(), COUNT)
    assert sum(process.num_threads() for process in processes) <= most_threads(COUNT, cores)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    most = max(service.get("pids_limit", 0) for name, service in compose["services"].items() if "sightword" in name)
    assert most >= most_threads(256, 256)


def most_threads(workers: int, cores: int) -> int:
    """As docs/operating.md has it, of one model."""
    return 16 * (workers + 1) + 9 * cores


def test_log_lines_carry_the_number_of_the_worker(pair: Running) -> None:
    lines = [json.loads(line) for line in pair.log().splitlines()]
    assert {line.get("worker") for line in lines if "ready after" in line["message"]} == set(range(COUNT))
    assert [line.get("worker") for line in lines if "running on" in line["message"]] == [None]
    for _ in range(8):
        httpx.get(f"{pair.url}/info", timeout=PATIENCE_S)
    requests = [line for line in map(json.loads, pair.log().splitlines()) if line.get("route") == "/info"]
    assert {line["worker"] for line in requests} <= set(range(COUNT))


def test_workers_show_no_secret_and_know_it(pair: Running) -> None:
    for worker in workers_of(pair):
        assert ADMIN_KEY not in " ".join(worker.cmdline())
        assert "service" in worker.cmdline()
        assert ADMIN_KEY not in " ".join(worker.environ().values())
    for _ in range(4):
        url = f"{pair.url}/admin/reload"
        assert httpx.post(url, headers={"x-api-key": "another"}, timeout=PATIENCE_S).status_code == 401
        assert httpx.post(url, headers={"x-api-key": ADMIN_KEY}, timeout=PATIENCE_S).status_code == 200
    assert pair.log().count("shows a secret") == 1


def test_places_in_the_queue_are_those_of_the_service(bundle_path: Path, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    module = f"tests.service.held_service {hold}"
    with several(tmp_path, bundle_path, module=module, queue_items=str(QUEUE_ITEMS), cache_bytes="0") as service:
        first, *others = connections(service)
        hold.touch()
        filling = threading.Thread(target=lambda: statuses.append(embed(first, QUEUE_ITEMS)))
        statuses: list[int] = []
        filling.start()
        refused = [wait_for_refusal(each) for each in others]
        hold.unlink()
        filling.join()
        assert refused == [429] * (COUNT - 1)
        assert statuses == [200]
        assert [embed(each, QUEUE_ITEMS) for each in others] == [200] * (COUNT - 1)


def connections(service: Running) -> list[http.client.HTTPConnection]:
    """One to each worker."""
    url, found = httpx.URL(service.url), {}
    for _ in range(32):
        connection = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE_S)
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        port = connection.sock.getsockname()[1]
        found.update({worker.pid: connection for worker in workers_of(service) if port in local_ports(worker)})
        if len(found) == COUNT:
            return list(found.values())
    raise AssertionError("some worker takes no connection")


def embed(connection: http.client.HTTPConnection, items: int) -> int:
    body = json.dumps({"inputs": [f"text {number}" for number in range(items)]})
    connection.request("POST", "/embed", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def wait_for_refusal(connection: http.client.HTTPConnection) -> int:
    """Until the other worker has taken all places, what is empty is refused for that."""
    answers: list[int] = []
    wait_until(lambda: answers.append(embed(connection, 0)) or answers[-1] == 429)  # type: ignore[func-returns-value]
    return answers[-1]


@pytest.mark.parametrize(
    ("workers", "cores", "count"),
    [("auto", 2, 1), ("auto", 16, 2), ("auto", 64, 8), ("AUTO", 7, 1), ("3", 2, 3), ("256", 2, 256)],
)
def test_how_many_there_are(workers: str, cores: int, count: int) -> None:
    assert count_workers(Settings.read({"workers": workers, "provider": "cpu"}), cores) == count


@pytest.mark.parametrize("workers", ["0", "257", "-1", "1.5", "many", "", "9" * 5000, "٣"])
def test_nonsense_is_refused_by_name(workers: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGHTWORD_WORKERS .*from 1 to 256, or auto") as caught:
        Settings.read({"workers": workers})
    assert len(str(caught.value)) < 200


def test_one_worker_has_no_parent(bundle_path: Path, tmp_path: Path) -> None:
    with starting(tmp_path, bundle_path, workers="auto", before=on_one_core) as service:
        assert workers_of(service) == []
        assert httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["workers"] == 1


def on_one_core() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


def test_settings_are_handed_down_as_they_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is started later has them too, whatever has changed in the environment since."""
    monkeypatch.setenv("SIGHTWORD_MAX_ITEMS", "7")
    flags = {
        "admin_key": ADMIN_KEY,
        "model": "a,b",
        "label_sets": Path("sets"),
        "workers": "auto",
        "log_format": "text",
    }
    settings = Settings.read(flags)
    handover = Handover(1, 4, to_hand_down(settings), sockets=[5], channel=6, board=7, cache=None)
    monkeypatch.setenv("_SIGHTWORD_HANDOVER", str(handover.write()))
    monkeypatch.setenv("SIGHTWORD_MAX_ITEMS", "8")
    monkeypatch.setenv("SIGHTWORD_MAX_LABELS", "9")
    taken = take()
    assert taken == handover
    assert taken.read_settings().__dict__ == settings.__dict__
    assert taken.read_settings().model_fields_set == settings.model_fields_set
    assert take() is None


def test_more_memory_for_the_cache_than_can_be_shared_is_refused_by_name(bundle_path: Path) -> None:
    settings = {"model": str(bundle_path), "workers": "2", "cache_bytes": str(2**50)}
    command = [sys.executable, "-m", "service", "--port", "0"]
    environment = clean_environment(settings) | {"COLUMNS": "300"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "SIGHTWORD_CACHE_BYTES (--cache-bytes): 1125899906842624 bytes cannot be shared" in ended.stderr


@pytest.mark.parametrize("secret", [["--api-keys", "abc"], ["--api-keys=abc"], ["--api-keys="]])
def test_the_command_line_of_a_worker_lacks_secrets_and_nothing_else(
    secret: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "service", *secret, "--port", "0"])
    assert command() == [sys.executable, "-m", "service", "--port", "0"]


def test_starting_several_at_once_leaves_the_parent_its_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal sends to all is held back from workers, and only from them."""
    mask = "signal.pthread_sigmask(signal.SIG_BLOCK, [])"
    code = f"import signal, sys; sys.exit(3 if {{signal.SIGINT, signal.SIGHUP}} <= {mask} else 1)"
    monkeypatch.setattr(process, "command", lambda: [sys.executable, "-c", code])

    async def one(number: int) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            handover = Handover(number, 3, {}, sockets=[], channel=theirs.fileno(), board=theirs.fileno(), cache=None)
            started = await process.start(handover, {}, ours)
        return await started.wait()

    async def test() -> None:
        assert await asyncio.gather(*map(one, range(3))) == [3, 3, 3]

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    asyncio.run(test())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
