"""Label sets in Redis: shared by replicas, through restarts, and without Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, running
from tests.service.conftest import checking_client
from tests.service.redis_or_skip import redis_server
from tests.service.test_label_sets import error_of, put

Replicas = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(redis: RedisServer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folders = [tmp_path_factory.mktemp("replica") for _ in range(2)]
    settings = {"redis_url": redis.url, "redis_prefix": "ours:"}
    with (
        running(folders[0], bundle_path, **settings) as first,
        checking_client(first) as one,
    ):
        put(one, "early", labels=["cat", "dog"])
        with running(folders[1], bundle_path, **settings) as second, checking_client(second) as other:
            yield one, other
    assert not any((folder / "label-sets").exists() for folder in folders)


def labels(client: httpx.Client, name: str) -> list[str] | None:
    found: list[str] | None = client.get(f"/label-sets/{name}").json().get("labels")
    return found


def wait_for(client: httpx.Client, name: str, expected: list[str] | None) -> None:
    ends = time.monotonic() + PATIENCE_S
    while labels(client, name) != expected:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_one_replica_sees_what_another_stores(replicas: Replicas, redis: RedisServer) -> None:
    one, other = replicas
    put(one, "shared", labels=["cat", "dog"], templates=["a {}"])
    assert labels(other, "shared") == ["cat", "dog"]
    request = {"inputs": "a cat", "label_set": "shared"}
    assert one.post("/classify", json=request).json() == other.post("/classify", json=request).json()
    assert other.put("/label-sets/shared", json={"labels": ["rabbit"]}).status_code == 200
    assert labels(other, "shared") == ["rabbit"]
    wait_for(one, "shared", ["rabbit"])
    [summary] = [each for each in one.get("/label-sets").json()["label_sets"] if each["name"] == "shared"]
    assert summary["label_count"] == 1
    with redis.client() as client:
        assert all(client.ttl(key) == -1 for key in client.scan_iter("ours:label-set*"))
        assert not list(client.scan_iter("label-set*"))
    assert one.delete("/label-sets/shared").status_code == 204
    assert labels(one, "shared") is None
    wait_for(other, "shared", None)
    assert error_of(other.post("/classify", json=request)) == (404, "label_set_not_found", "label_set")


def test_a_replica_that_started_later(replicas: Replicas) -> None:
    for client in replicas:
        answer = client.post("/classify", json={"inputs": "a", "label_set": "early"}).json()
        assert {each["label"] for each in answer["data"][0]["predictions"]} == {"cat", "dog"}
        assert answer["usage"]["texts"] == 1


def test_what_is_no_label_set(replicas: Replicas, redis: RedisServer) -> None:
    one, _ = replicas
    with redis.client() as client:
        for name, document in (("odd", b"{"), ("binary", bytes(range(256))), ("../x", b"{}")):
            client.hset("ours:label-sets", name, document)
            client.hset("ours:label-set-summaries", name, document)
    assert error_of(one.get("/label-sets/odd")) == (404, "label_set_not_found", "name")
    assert error_of(one.post("/classify", json={"inputs": "a", "label_set": "binary"}))[0] == 404
    assert not {"odd", "binary", "../x"} & {each["name"] for each in one.get("/label-sets").json()["label_sets"]}
    put(one, "odd", labels=["cat"])
    assert labels(one, "odd") == ["cat"]


def without_redis(client: httpx.Client, seen: str) -> None:
    """Nothing is lost in silence, and what was seen still works."""
    requests = (
        ("PUT", f"/label-sets/{seen}", {"labels": ["rabbit"]}),
        ("DELETE", f"/label-sets/{seen}", None),
        ("GET", "/label-sets", None),
        ("POST", "/classify", {"inputs": "a", "label_set": "unseen"}),
    )
    with ThreadPoolExecutor(len(requests)) as pool:  # each waits for Redis for two seconds
        for answer in pool.map(lambda each: client.request(each[0], each[1], json=each[2]), requests):
            assert error_of(answer) == (503, "unavailable", None)
    for _ in range(2):
        answer = client.post("/classify", json={"inputs": "a", "label_set": seen})
        assert [each["label"] for each in answer.json()["data"][0]["predictions"]]
        time.sleep(1.1)  # longer than what was seen goes unchecked
    assert labels(client, seen) == ["cat", "dog"]


def test_redis_does_not_answer(replicas: Replicas, redis: RedisServer) -> None:
    put(replicas[0], "paused", labels=["cat", "dog"])
    redis.pause()
    try:
        without_redis(replicas[0], "paused")
    finally:
        redis.resume()
    wait_for(replicas[1], "paused", ["cat", "dog"])


def test_redis_refuses(replicas: Replicas, redis: RedisServer) -> None:
    put(replicas[0], "kept", labels=["cat", "dog"])
    with redis.client() as client:
        client.config_set("maxmemory", 1)
        try:
            answer = replicas[0].put("/label-sets/kept", json={"labels": ["rabbit"]})
            assert error_of(answer) == (503, "unavailable", None)
        finally:
            client.config_set("maxmemory", 0)
    assert labels(replicas[0], "kept") == ["cat", "dog"]
    assert labels(replicas[1], "kept") == ["cat", "dog"]


def test_redis_dies_and_comes_back(replicas: Replicas, redis: RedisServer) -> None:
    put(replicas[0], "killed", labels=["cat", "dog"])
    redis.kill()
    without_redis(replicas[0], "killed")
    redis.start()  # empty
    wait_for(replicas[0], "killed", None)
    put(replicas[0], "killed", labels=["dog"])
    wait_for(replicas[1], "killed", ["dog"])
