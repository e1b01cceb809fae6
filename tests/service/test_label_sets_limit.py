"""The most label sets there can be, while many are stored and removed at once: by one process, by two, and in Redis."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, Running, running
from service.settings import MAX_LABEL_SETS
from tests.service.redis_or_skip import redis_server
from tests.service.test_label_sets_stored import GOOD

ROOM = 10
AT_ONCE = 100
Services = tuple[Running, Running]


@pytest.fixture(scope="module")
def two_on_a_folder(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Path]]:
    folder = tmp_path_factory.mktemp("shared") / "label-sets"
    folder.mkdir()
    settings = {"label_sets": str(folder)}
    with running(folder.parent, bundle_path, **settings) as one, running(folder.parent, bundle_path, **settings) as two:
        yield (one, two), folder


@pytest.fixture(scope="module")
def two_on_redis(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, RedisServer]]:
    folder = tmp_path_factory.mktemp("redis")
    with (
        redis_server(folder) as server,
        running(folder, bundle_path, redis_url=server.url) as one,
        running(folder, bundle_path, redis_url=server.url) as two,
    ):
        yield (one, two), server


@pytest.fixture(params=["folder", "redis"])
def nearly_full(request: pytest.FixtureRequest) -> tuple[Services, Callable[[], int]]:
    """Two services that share a store with room for a few more, and how many label sets there are."""
    documents = {name: json.dumps({**GOOD, "name": name}) for name in _fillers()}
    if request.param == "folder":
        services, folder = request.getfixturevalue("two_on_a_folder")
        for file in folder.iterdir():
            file.unlink()
        for name, document in documents.items():
            (folder / f"{name}.json").write_text(document)
        return services, lambda: len(list(folder.glob("*.json")))
    services, server = request.getfixturevalue("two_on_redis")
    with server.client() as client:
        client.flushall()
        client.hset("sightword:label-sets", mapping=documents)
        client.hset("sightword:label-set-summaries", mapping=dict.fromkeys(documents, "{}"))

    def count() -> int:
        with server.client() as client:
            counts = {client.hlen("sightword:label-sets"), client.hlen("sightword:label-set-summaries")}
        [number] = counts
        return int(number)

    return services, count


def _fillers() -> list[str]:
    return [f"filler-{number}" for number in range(MAX_LABEL_SETS - ROOM)]


def _at_once(requests: list[tuple[str, str]]) -> Counter[int]:
    """How often each status was answered, of requests that all begin at the same moment."""
    together = threading.Barrier(len(requests))

    def send(method: str, url: str) -> int:
        with httpx.Client(timeout=PATIENCE_S) as client:
            together.wait()
            body = {"json": {"labels": ["cat", "dog"]}} if method == "PUT" else {}
            return client.request(method, url, **body).status_code

    with ThreadPoolExecutor(len(requests)) as pool:
        return Counter(pool.map(lambda request: send(*request), requests))


def test_only_as_many_as_there_is_room_for(nearly_full: tuple[Services, Callable[[], int]]) -> None:
    services, count = nearly_full
    urls = [f"{services[number % 2].url}/label-sets/new-{number}" for number in range(AT_ONCE)]
    assert _at_once([("PUT", url) for url in urls]) == {201: ROOM, 422: AT_ONCE - ROOM}
    assert count() == MAX_LABEL_SETS
    # What is there can still be replaced, by all at once.
    kept = [f"{service.url}/label-sets/filler-{number}" for number in range(10) for service in services]
    assert _at_once([("PUT", url) for url in kept]) == {200: len(kept)}
    assert count() == MAX_LABEL_SETS


def test_while_others_are_removed(nearly_full: tuple[Services, Callable[[], int]]) -> None:
    services, count = nearly_full
    removed = 20
    puts = [("PUT", f"{services[number % 2].url}/label-sets/new-{number}") for number in range(AT_ONCE)]
    deletes = [("DELETE", f"{services[number % 2].url}/label-sets/filler-{number}") for number in range(removed)]
    statuses = _at_once([each for pair in zip(puts, deletes * 5, strict=True) for each in dict.fromkeys(pair)])
    assert statuses[204] == removed, statuses
    assert ROOM <= statuses[201] <= ROOM + removed, statuses
    assert statuses[200] == 0
    assert statuses[422] == AT_ONCE - statuses[201]
    assert count() == MAX_LABEL_SETS - ROOM - removed + statuses[201] <= MAX_LABEL_SETS
