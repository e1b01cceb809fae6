"""What one worker of a service stores, the others have at once: vectors, and label sets in a folder or in Redis."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, Running
from service.settings import MAX_LABEL_SETS
from tests.service.redis_or_skip import redis_server
from tests.service.several_workers import several, wait_until, workers_of
from tests.service.test_cache import LOOKUPS, fresh
from tests.service.test_label_sets_stored import GOOD

ROUNDS = 25


@pytest.fixture(scope="module")
def on_a_folder(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with several(tmp_path_factory.mktemp("folder"), bundle_path) as service:
        yield service


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def on_redis(redis: RedisServer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with several(tmp_path_factory.mktemp("on-redis"), bundle_path, redis_url=redis.url) as service:
        yield service


@pytest.fixture(params=["on_a_folder", "on_redis"])
def service(request: pytest.FixtureRequest) -> Running:
    running: Running = request.getfixturevalue(request.param)
    return running


@contextmanager
def one_each(service: Running) -> Iterator[list[httpx.Client]]:
    """A client connected to each worker, which keeps its connection."""
    with ExitStack() as stack:
        clients: dict[int, httpx.Client] = {}
        workers = workers_of(service)
        while len(clients) < len(workers):
            client = stack.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE_S))
            assert client.get("/health/live").status_code == 200
            clients.setdefault(_worker_of(client, workers), client)
        yield list(clients.values())


def _worker_of(client: httpx.Client, workers: list[psutil.Process]) -> int:
    """The process that has the other end of its one connection."""
    [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
    socket = connection._connection._network_stream.get_extra_info("socket")
    port = socket.getsockname()[1]
    [pid] = {each.pid for each in workers for end in each.net_connections("tcp") if end.raddr and end.raddr[1] == port}
    return int(pid)


def _stages(answer: httpx.Response) -> set[str]:
    return {part.strip().partition(";")[0] for part in answer.headers["server-timing"].split(",")}


def _counts(service: Running) -> tuple[float, float, float]:
    """Hits in memory, what was computed, and bytes of the cache, of all workers."""
    hits = service.metric(LOOKUPS, tier="memory", outcome="hit")
    return hits, service.metric("sightword_inference_items_total"), service.metric("sightword_cache_bytes")


def test_what_one_worker_has_computed_another_finds(on_a_folder: Running) -> None:
    inputs = [{"image": fresh("cat")}, f"a text {os.urandom(8).hex()}", {"image": fresh("logo")}]
    with one_each(on_a_folder) as (one, other):
        before = _counts(on_a_folder)
        first, second = (client.post("/embed", json={"inputs": inputs}) for client in (one, other))
        assert second.json() == first.json()
        hits, computed, held = (new - old for new, old in zip(_counts(on_a_folder), before, strict=True))
        assert (hits, computed) == (3, 3)
        assert {"decode", "queue", "inference"} <= _stages(first)
        assert not {"decode", "queue", "inference"} & _stages(second)
    width = 4 * len(first.json()["data"][0]["embedding"])
    assert 3 * width < held < 4 * width  # once, however many workers there are


def test_a_label_set_that_one_worker_changes_the_other_has_at_once(service: Running) -> None:
    with one_each(service) as clients:
        for number in range(ROUNDS):
            writer, reader = clients[number % 2], clients[1 - number % 2]
            labels = [f"cat {number}", f"dog {number}"]
            assert writer.put("/label-sets/pets", json={"labels": labels}).status_code in (200, 201)
            for client in (reader, writer):
                assert client.get("/label-sets/pets").json()["labels"] == labels
                answer = client.post("/classify", json={"inputs": "a cat", "label_set": "pets"}).json()
                assert {each["label"] for each in answer["data"][0]["predictions"]} == set(labels)
            own = reader.post("/classify", json={"inputs": "a cat", "labels": labels}).json()
            assert answer["data"] == own["data"]  # by the vectors of these labels
        for number in range(4):
            remover, reader = clients[number % 2], clients[1 - number % 2]
            assert reader.get("/label-sets/pets").status_code == 200
            assert remover.delete("/label-sets/pets").status_code == 204
            assert reader.get("/label-sets/pets").status_code == 404
            assert reader.post("/classify", json={"inputs": "a", "label_set": "pets"}).status_code == 404
            assert remover.put("/label-sets/pets", json={"labels": labels}).status_code == 201


def test_a_label_set_is_whole_and_current_while_all_workers_read_and_write_it(service: Running) -> None:
    """Each set is of one version; and who has stored one never finds an older one, whichever worker it asks."""
    with one_each(service) as clients, ThreadPoolExecutor(4) as pool:

        def write_and_read(name: str) -> None:
            for number in range(ROUNDS):
                labels = [f"{each} {number}" for each in "abcdefgh"]
                stored = clients[number % 2].put(f"/label-sets/{name}", json={"labels": labels})
                assert stored.status_code in (200, 201), stored.text
                for client in clients:
                    assert client.get(f"/label-sets/{name}").json()["labels"] == labels

        def read(name: str) -> None:
            for number in range(2 * ROUNDS):
                found = clients[number % 2].get(f"/label-sets/{name}")
                if found.status_code == 200:
                    assert len({label.split()[1] for label in found.json()["labels"]}) == 1
                else:
                    assert found.status_code == 404, found.text  # not stored yet

        work = [pool.submit(what, name) for name in ("one", "two") for what in (write_and_read, read)]
        for each in work:
            each.result()


def test_workers_together_store_no_more_than_there_may_be(on_a_folder: Running) -> None:
    folder = on_a_folder.log_file.parent / "label-sets"
    folder.mkdir(exist_ok=True)
    for number in range(MAX_LABEL_SETS - 3 - len(list(folder.glob("*.json")))):
        (folder / f"filler-{number}.json").write_text(json.dumps({**GOOD, "name": f"filler-{number}"}), "utf-8")
    try:
        with one_each(on_a_folder) as clients, ThreadPoolExecutor(8) as pool:
            statuses = pool.map(
                lambda number: (
                    clients[number % 2].put(f"/label-sets/new-{number}", json={"labels": ["a", "b"]}).status_code
                ),
                range(20),
            )
            assert sorted(statuses) == [201] * 3 + [422] * 17
    finally:
        for file in folder.glob("*.json"):
            file.unlink()


def test_what_a_worker_has_stored_outlives_it(on_a_folder: Running) -> None:
    picture = {"inputs": {"image": fresh("rocket")}}
    with one_each(on_a_folder) as (one, other):
        first = one.post("/embed", json=picture)
        victim = _worker_of(one, workers_of(on_a_folder))
        psutil.Process(victim).kill()  # with SIGKILL
        second = other.post("/embed", json=picture)
        assert second.json() == first.json()
        assert "decode" not in _stages(second)
    wait_until(lambda: on_a_folder.log().count("ready after") == 3)  # for whatever test comes next
