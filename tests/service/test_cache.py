"""What the cache spares and never spoils, seen from outside: the real service, a real Redis."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, Running, clean_environment, running
from model.bundle import Bundle
from model.manifest import MANIFEST
from tests.service import pictures

LOOKUPS = "sightword_cache_lookups_total"
HTTP = httpx.Client(timeout=PATIENCE_S)
PATIENT = {"module": "tests.service.patient_service", "max_batch": "8", "timeout_s": "120"}


@pytest.fixture(scope="module")
def cached(redis: RedisServer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """On a busy machine, Redis may need longer than the service waits for it; here, what it holds is found."""
    with running(tmp_path_factory.mktemp("cached"), bundle_path, redis_url=redis.url, **PATIENT) as service:
        yield service


def fresh(name: str) -> str:
    """A picture that was never sent before, in base64: bytes behind the end change the file and no pixel."""
    return base64.b64encode(pictures.read(name) + os.urandom(16)).decode()


def embed(service: Running, *inputs: object, **options: object) -> httpx.Response:
    answer = HTTP.post(f"{service.url}/embed", json={"inputs": inputs, **options})
    assert answer.status_code == 200, answer.text
    return answer


def vectors(answer: httpx.Response) -> NDArray[np.float32]:
    data: list[dict[str, Any]] = answer.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return np.array([entry["embedding"] for entry in data], np.float32)


def work(service: Running) -> tuple[float, float, float]:
    """What was decoded and computed so far."""
    return (
        service.metric("sightword_decoded_pixels_total"),
        service.metric("sightword_inference_items_total", tower="image"),
        service.metric("sightword_inference_items_total", tower="text"),
    )


def test_a_hit_costs_neither_decoding_nor_inference(cached: Running) -> None:
    inputs = [{"image": fresh("cat")}, f"a text {os.urandom(8).hex()}", {"image": fresh("logo")}]
    first = embed(cached, *inputs)
    before, hits = work(cached), cached.metric(LOOKUPS, tier="memory", outcome="hit")
    second = embed(cached, *inputs)
    assert work(cached) == before
    assert second.json() == first.json()
    assert cached.metric(LOOKUPS, tier="memory", outcome="hit") == hits + 3
    assert "cache;dur=" in second.headers["server-timing"]
    assert "decode" not in second.headers["server-timing"]
    assert 0 < cached.metric("sightword_cache_bytes") < 2**28
    assert cached.metric("sightword_redis_up") == 1


def test_hits_and_misses_mixed_keep_their_places(cached: Running) -> None:
    known = [{"image": fresh("cat")}, "a known text", {"image": fresh("rocket")}]
    unknown = [{"image": fresh("moon")}, f"unknown {os.urandom(4).hex()}", {"image": fresh("coffee")}]
    old = vectors(embed(cached, *known))
    mixed = [unknown[0], known[2], unknown[1], known[0], known[1], known[2], unknown[2], unknown[0]]
    got = vectors(embed(cached, *mixed))
    np.testing.assert_array_equal(got[[3, 4, 1, 5]], old[[0, 1, 2, 2]])
    new = np.stack([vectors(embed(cached, item))[0] for item in unknown])
    np.testing.assert_array_equal(got[[0, 2, 6, 7]], new[[0, 1, 2, 0]])
    assert (got @ got.T < 0.9999).sum() == 8 * 8 - 8 - 4  # but for the two pairs, no two are alike


def test_dimensions_and_encodings_come_out_of_the_one_vector(cached: Running) -> None:
    item = {"image": fresh("flower")}
    [whole] = vectors(embed(cached, item))
    before = work(cached)
    half = len(whole) // 2
    [cut] = vectors(embed(cached, item, dimensions=half))
    np.testing.assert_allclose(cut, whole[:half] / np.linalg.norm(whole[:half]), atol=1e-6)
    [entry] = embed(cached, item, encoding_format="base64").json()["data"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(entry["embedding"]), "<f4"), whole)
    assert vectors(embed(cached, item, encoding_format="int8")).shape == (1, len(whole))
    assert work(cached) == before
    again = vectors(embed(cached, item))[0]  # nobody cut the one that is kept
    np.testing.assert_array_equal(again, whole)


def test_the_same_picture_for_many_at_once_is_computed_once(cached: Running) -> None:
    picture = {"image": fresh("astronaut")}
    before = work(cached)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: embed(cached, picture, picture).json()["data"], range(16)))
    assert all(answer == answers[0] for answer in answers)
    pixels, images, _ = (after - old for after, old in zip(work(cached), before, strict=True))
    assert (pixels, images) == (512 * 512, 1)


def test_one_mget_a_request(cached: Running, redis: RedisServer) -> None:
    before = redis.calls("mget"), redis.calls("get")
    items = [{"image": fresh("cat")}, {"image": fresh("logo")}, "one", "two", "three", "three"]
    embed(cached, *items)
    assert (redis.calls("mget"), redis.calls("get")) == (before[0] + 1, before[1])
    embed(cached, *items)
    assert redis.calls("mget") == before[0] + 1


def test_failures_are_not_kept(cached: Running, redis: RedisServer) -> None:
    broken = base64.b64encode(pictures.read("rocket")[:3000] + os.urandom(8)).decode()
    with redis.client() as client:
        before = client.dbsize()
        for _ in range(2):
            answer = HTTP.post(f"{cached.url}/embed", json={"inputs": {"image": broken}})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_image")
        assert client.dbsize() == before


def changed_bundle(source: Path, target: Path) -> Path:
    """The same weights, with pictures resized in another way: another digest, and other vectors."""
    shutil.copytree(source, target)
    manifest = json.loads((target / MANIFEST).read_text("utf-8"))
    manifest["id"] = "changed"
    manifest["preprocessing"] |= {"resize_mode": "squash"}
    (target / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return target


def test_redis_keeps_over_a_restart_what_another_bundle_never_sees(
    redis: RedisServer, cached: Running, bundle: Bundle, bundle_path: Path, tmp_path: Path
) -> None:
    items = [{"image": fresh("temple")}, {"image": fresh("cat")}, "kept over a restart"]
    first = embed(cached, *items)
    other = Bundle.load(changed_bundle(bundle_path, tmp_path / "other"))
    assert other.digest != bundle.digest
    both = f"{bundle_path},{other.path}"
    with running(tmp_path, Path(both), redis_url=redis.url, **PATIENT) as again:
        before = work(again)
        assert embed(again, *items).json() == first.json()
        assert work(again) == before
        assert again.metric(LOOKUPS, tier="redis", outcome="hit") == 3
        answer = vectors(embed(again, *items, model="changed"))
        assert np.subtract(work(again), before)[1:].tolist() == [2, 1]
        assert again.metric(LOOKUPS, tier="redis", outcome="hit") == 3
    assert not np.allclose(answer[:2], vectors(first)[:2], atol=1e-3)
    with redis.client() as client:
        for digest in (bundle.digest, other.digest):
            assert len(client.keys(f"sightword:{digest}:image:*")) >= 2


def test_a_redis_url_that_is_none_stops_the_start_and_is_not_shown(bundle_path: Path) -> None:
    settings = {"model": str(bundle_path), "redis_url": "redis://:geheim/word@host:6379"}
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0"],
        env=clean_environment(settings) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert "SIGHTWORD_REDIS_URL" in ended.stderr
    assert "geheim" not in ended.stderr + ended.stdout
