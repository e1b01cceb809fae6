"""What an Llip bundle goes through while it is served: caches, and another kind of model in its place."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import Bundle, write_manifest
from service.cache.value import encode
from tests.service import pictures
from tests.service.llip import DIMENSIONS, PICTURES, TOKENS, Llip

KEY = "an operator's long key"
ADMIN = {"x-api-key": KEY}
IMAGES = [{"image": pictures.as_base64(name)} for name in PICTURES]
LABELS = ["cat", "cup of coffee", "temple"]


def post(service: Running, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{service.url}{path}", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tokens(service: Running) -> Any:
    return np.array([entry["embedding"] for entry in post(service, "/embed", inputs=IMAGES, output="tokens")["data"]])


def computed(service: Running) -> float:
    return service.metric("sightword_inference_items_total", tower="image")


def test_all_vectors_of_a_picture_pass_through_redis_and_no_others(
    llip: Llip, redis: RedisServer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"redis_url": redis.url, "module": "tests.service.patient_service", "timeout_s": "120"}
    with running(tmp_path, llip.bundle.path, **options) as service:
        np.testing.assert_allclose(tokens(service), llip.tokens(), atol=1e-4)
        post(service, "/similarity", queries=IMAGES, candidates=["a cat"])  # out of memory
        assert computed(service) == len(IMAGES)
    with redis.client() as client:
        stored = {key.decode(): value for key in client.scan_iter() if b":image:" in key and (value := client.get(key))}
        assert len(stored) == len(IMAGES)
        short, whole, other = stored
        of = {name: f"{llip.bundle.digest}:{name.partition(':' + llip.bundle.digest + ':')[2]}" for name in stored}
        # As of a model of one vector a picture, and as of one with more dimensions.
        client.set(short, encode(of[short], np.ones(DIMENSIONS, np.float32)))
        client.set(other, encode(of[other], np.ones(TOKENS * DIMENSIONS + 1, np.float32)))
        client.set(whole, encode(of[whole], np.full(TOKENS * DIMENSIONS, 0.5, np.float32)))
    with running(tmp_path, llip.bundle.path, **options) as service:
        found = tokens(service)
        assert computed(service) == 2  # what has another length is computed anew; what has this one is believed
        as_stored = np.isclose(found, 0.5).all(axis=(1, 2))
        assert as_stored.sum() == 1
        np.testing.assert_allclose(found[~as_stored], llip.tokens()[~as_stored], atol=1e-4)


def test_a_model_of_one_vector_and_one_of_several_take_each_others_place(
    llip: Llip, bundle: Bundle, tmp_path: Path
) -> None:
    """Requests that both can answer are all answered; each as its model does."""
    mixture = tmp_path / "mixture"
    shutil.copytree(llip.bundle.path, mixture)
    (mixture / "bundle.json").unlink()
    write_manifest(mixture, llip.bundle.manifest.model_dump(mode="json", exclude={"files"}) | {"id": bundle.id})
    link = tmp_path / "current"
    link.symlink_to(bundle.path)
    answers: list[tuple[str, httpx.Response]] = []
    stop = threading.Event()
    with running(tmp_path, link, admin_key=KEY, timeout_s="120") as service:

        def ask(path: str, body: Any) -> None:
            with httpx.Client(base_url=service.url, timeout=PATIENCE_S, headers=ADMIN) as http:
                while not stop.is_set():
                    answers.append((path, http.post(path, json=body)))

        bodies = [
            ("/classify", {"inputs": IMAGES[:1], "labels": LABELS}),
            ("/similarity", {"queries": ["a cat"], "candidates": IMAGES[:2]}),
            ("/embed", {"inputs": IMAGES[0]}),
        ]
        threads = [threading.Thread(target=ask, args=body) for body in bodies]
        for thread in threads:
            thread.start()
        for target in (mixture, bundle.path, mixture):
            wait_until(answered(answers, 20))
            fresh = tmp_path / "fresh"
            fresh.symlink_to(target)
            fresh.replace(link)
            reloaded = httpx.post(f"{service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)
            assert reloaded.status_code == 200, reloaded.text
        wait_until(answered(answers, 20))
        stop.set()
        for thread in threads:
            thread.join()
        assert "Traceback" not in service.log()
    expected = llip.cosines(llip.tokens(PICTURES[:2]), llip.texts(["a cat"]))[:, 0]
    digests = set()
    for path, answer in answers:
        if path == "/embed" and answer.status_code == 422:
            assert answer.json()["error"]["code"] == "unsupported_modality"
            continue
        assert answer.status_code == 200, answer.text
        digests.add(answer.headers["x-model-digest"])
        if path == "/similarity":
            of_mixture = answer.headers["x-model-digest"] == llip.bundle.digest
            assert np.allclose(answer.json()["cosine"][0], expected, atol=1e-4) == of_mixture
    assert digests == {bundle.digest, llip.bundle.digest}
    assert {answer.status_code for path, answer in answers if path == "/embed"} == {200, 422}


def answered(answers: list[Any], more: int) -> Callable[[], bool]:
    before = len(answers)
    return lambda: len(answers) >= before + more


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)
