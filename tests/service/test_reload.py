"""Another bundle takes the place of the one served: while requests run, without losing one or mixing two models."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import Bundle, write_manifest

KEY = "an operator's long key"
ADMIN = {"x-api-key": KEY}


@pytest.fixture
def folder(bundle_path: Path, tmp_path: Path) -> Path:
    """What the service is told to serve: a link, so that its content changes at once."""
    link = tmp_path / "current"
    link.symlink_to(bundle_path)
    return link


def point(link: Path, target: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


@contextmanager
def serving(folder: Path, tmp_path: Path, **settings: str) -> Iterator[Running]:
    with running(tmp_path, folder, admin_key=KEY, timeout_s="120", **settings) as service:
        yield service


def embed(http: httpx.Client, text: str) -> tuple[str, np.ndarray[Any, Any]]:
    answer = http.post("/embed", json={"inputs": text})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-model-digest"], np.array(answer.json()["data"][0]["embedding"])


@pytest.mark.parametrize("by", ["request", "signal"])
def test_a_swap_under_load_loses_nothing_and_mixes_nothing(
    folder: Path, tmp_path: Path, bundle: Bundle, other_bundle: Bundle, by: str
) -> None:
    texts = [f"{number} apples" for number in range(12)]
    with serving(folder, tmp_path) as service:
        answers: list[tuple[str, str, np.ndarray[Any, Any]]] = []
        stop = threading.Event()

        def client(offset: int) -> None:
            with httpx.Client(base_url=service.url, timeout=PATIENCE_S, headers=ADMIN) as http:
                turn = offset
                while not stop.is_set():
                    text = texts[turn % len(texts)]
                    answers.append((text, *embed(http, text)))
                    turn += 1

        clients = [threading.Thread(target=client, args=(offset,)) for offset in range(4)]
        for thread in clients:
            thread.start()
        wait_until(lambda: len(answers) > 50)
        point(folder, other_bundle.path)
        if by == "request":
            answer = httpx.post(f"{service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)
            assert answer.json() == {
                "models": [
                    {
                        "id": other_bundle.id,
                        "digest": other_bundle.digest,
                        "previous_digest": bundle.digest,
                        "changed": True,
                    }
                ]
            }
        else:
            service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: answers[-1][1] == other_bundle.digest)
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 50)
        stop.set()
        for thread in clients:
            thread.join()
        assert {digest for _, digest, _ in answers} == {bundle.digest, other_bundle.digest}
        of_model: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
        for text, digest, vector in answers:
            np.testing.assert_allclose(vector, of_model.setdefault((text, digest), vector), atol=1e-4)
        assert any(
            np.abs(of_model[text, bundle.digest] - of_model[text, other_bundle.digest]).max() > 0.01 for text in texts
        )
        assert "Traceback" not in service.log()
        assert info(service)["digest"] == other_bundle.digest


def info(service: Running) -> dict[str, Any]:
    model: dict[str, Any] = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"][0]
    return model


def wait_until(true: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture(scope="module")
def reloadable(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    folder = tmp_path_factory.mktemp("reloadable")
    copy = shutil.copytree(bundle_path, folder / "bundle")
    with serving(copy, folder) as service:
        yield service, copy


def reload(service: Running, query: str = "") -> httpx.Response:
    return httpx.post(f"{service.url}/admin/reload{query}", headers=ADMIN, timeout=PATIENCE_S)


def test_an_unchanged_bundle_stays(reloadable: tuple[Running, Path], bundle: Bundle) -> None:
    service, _ = reloadable
    [model] = reload(service).json()["models"]
    assert (model["digest"], model["changed"]) == (bundle.digest, False)


def test_a_changed_logit_scale_is_a_change(reloadable: tuple[Running, Path], bundle: Bundle, bundle_path: Path) -> None:
    service, folder = reloadable
    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    write_manifest(folder, manifest | {"logit_scale": 5.0})
    try:
        [model] = reload(service).json()["models"]
        assert (model["digest"], model["changed"]) == (bundle.digest, True)  # the same vectors, other scores
        assert info(service)["logit_scale"] == 5.0
    finally:
        for original in bundle_path.iterdir():
            shutil.copy(original, folder)
        reload(service)


def test_a_model_that_is_not_served(reloadable: tuple[Running, Path]) -> None:
    answer = reload(reloadable[0], "?model=nobody")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("damage", ["altered", "missing", "truncated", "no graph"])
def test_a_bad_bundle_leaves_the_old_one_serving(
    reloadable: tuple[Running, Path], bundle: Bundle, bundle_path: Path, damage: str
) -> None:
    service, folder = reloadable
    name = "bundle.json" if damage == "missing" else "image.onnx"
    file = folder / name
    try:
        if damage == "missing":
            file.unlink()
        elif damage == "truncated":
            file.write_bytes(file.read_bytes()[:-100])
        elif damage == "altered":
            file.write_bytes(b"\0" + file.read_bytes()[1:])
        else:
            spoil_graph(folder)
        answer = reload(service)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_bundle")
        assert name in error["message"]
        assert str(folder) not in error["message"]
        assert info(service)["digest"] == bundle.digest
        assert httpx.post(f"{service.url}/embed", json={"inputs": "still served"}, timeout=PATIENCE_S).is_success
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nothing was reloaded" in service.log())
        assert httpx.get(f"{service.url}/health/ready", timeout=PATIENCE_S).is_success
    finally:
        for original in bundle_path.iterdir():
            shutil.copy(original, folder)


def spoil_graph(folder: Path) -> None:
    """Right by its hash, and no graph all the same."""
    from model.manifest import MANIFEST

    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    (folder / "image.onnx").write_bytes(b"this is no graph")
    (folder / MANIFEST).unlink()
    write_manifest(folder, manifest)


def test_two_models_at_once(bundle: Bundle, other_bundle: Bundle, tmp_path: Path) -> None:
    second = shutil.copytree(other_bundle.path, tmp_path / "second")
    rename(second, "another-model")
    with serving(Path(f"{bundle.path},{second}"), tmp_path) as service, httpx.Client(base_url=service.url) as http:
        assert [model["id"] for model in http.get("/models").json()["models"]] == [bundle.id, "another-model"]
        vectors = {}
        for name in (None, bundle.id, "another-model"):
            answer = http.post("/embed", json={"inputs": "a cat"} | ({"model": name} if name else {}))
            assert answer.json()["model"] == (name or bundle.id)
            vectors[name] = np.array(answer.json()["data"][0]["embedding"])
        np.testing.assert_allclose(vectors[None], vectors[bundle.id], atol=1e-5)
        assert np.abs(vectors[None] - vectors["another-model"]).max() > 0.01
        refused = http.post("/embed", json={"inputs": "a cat", "model": "third"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert "another-model" in refused.json()["error"]["message"]


def rename(folder: Path, name: str) -> None:
    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    write_manifest(folder, manifest | {"id": name})
