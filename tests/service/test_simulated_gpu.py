"""The real service, as a process, on a simulated GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running, wait_until_ready
from model.bundle import Bundle
from model.manifest import WEIGHTS
from tests.service import pictures
from tests.service.test_reload import ADMIN, KEY, point, rename

GB = 10**9


def on_gpu(folder: Path, model: Path, habits: dict[str, Any], **settings: str) -> AbstractContextManager[Running]:
    module = f"tests.service.simulated_gpu_service {json.dumps(habits, separators=(',', ':'))}"
    return running(folder, model, module=module, cache_bytes="0", **settings)


def embed(service: Running, inputs: Any, **options: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/embed", json={"inputs": inputs, **options}, timeout=PATIENCE_S)


def test_no_live_request_meets_a_cold_shape(bundle_path: Path, tmp_path: Path) -> None:
    with on_gpu(tmp_path, bundle_path, {"plan_s": 0.3}, max_batch="8", timeout_s="30") as service:
        warm = service.log().count("cold shape")
        assert warm >= 8
        texts = [[f"{'word ' * words}{words}.{number}" for number in range(items)]
                 for words in (1, 12, 20, 40) for items in (1, 3, 6, 30)]  # fmt: skip
        with_image = {"image": pictures.as_base64("rocket")}
        for inputs in [*texts, [with_image]]:
            assert embed(service, inputs, truncate=True).status_code == 200
        assert service.log().count("cold shape") == warm
        assert service.metric("sightword_inference_padded_items_total", tower="text") > 0
        info = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()
        [model] = info["models"]
        assert model["provider"] == "CUDAExecutionProvider"
        assert model["padded_sizes"] == {"image": [1, 2, 4, 8], "text": [1, 2, 4, 8]}
        assert info["device_memory"]["total_bytes"] == 16 * GB
        assert model["device_bytes"] == 16 * GB - info["device_memory"]["free_bytes"] > 0
        assert service.metric("sightword_device_memory_bytes", kind="total") == 16 * GB
        assert service.metric("sightword_device_memory_bytes", kind="free") == info["device_memory"]["free_bytes"]


def test_memory_that_runs_out_is_told_and_nothing_is_lost(bundle_path: Path, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.write_text("1000")
    with on_gpu(tmp_path, bundle_path, {"room": str(room)}, max_batch="64") as service:
        assert service.metric("sightword_max_batch", tower="text") == 64
        room.write_text("20")
        answer = embed(service, [f"text {number}" for number in range(200)])
        assert answer.status_code == 200
        assert len(answer.json()["data"]) == 200
        assert httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"][0]["max_batch"]["text"] == 16
        assert service.metric("sightword_max_batch", tower="text") == 16
        assert service.metric("sightword_out_of_memory_total", tower="text") == 2
        assert "no memory for batches of 64 items" in service.log()
        assert httpx.get(f"{service.url}/health/ready", timeout=PATIENCE_S).status_code == 200
        assert service.metric("sightword_engine_restarts_total") == 0


def test_a_device_that_is_lost_for_a_while_is_served_again(bundle_path: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    with on_gpu(tmp_path, bundle_path, {"lost": str(lost)}, max_batch="4") as service:
        lost.touch()
        assert embed(service, "a").json()["error"]["code"] == "inference_error"
        assert httpx.get(f"{service.url}/health/ready", timeout=PATIENCE_S).status_code == 503
        lost.unlink()
        wait_until_ready(service)
        assert embed(service, "a").status_code == 200


def test_a_run_that_hangs_ends_the_process(bundle_path: Path, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    with on_gpu(tmp_path, bundle_path, {"hangs": str(hangs)}, max_batch="4", timeout_s="2") as service:
        hangs.touch()
        assert embed(service, "a").status_code in (503, 504)
        assert service.process.wait(PATIENCE_S) == 1
        assert "has not come back" in service.log()


@pytest.fixture
def other(bundle: Bundle, tmp_path: Path) -> Bundle:
    """The same model under another name."""
    folder = shutil.copytree(bundle.path, tmp_path / "other")
    rename(folder, "another-model")
    return Bundle.load(folder)


@contextmanager
def serving(bundle: Bundle, folder: Path, rooms: float) -> Iterator[tuple[Running, Path]]:
    """A service on a device with room for so many engines, and the link to its bundle."""
    link = folder / "current"
    link.symlink_to(bundle.path)
    working = 100_000_000
    needed = bundle.manifest.files[WEIGHTS].bytes + working
    habits = {"total_bytes": int(rooms * needed), "working_bytes": working}
    with on_gpu(folder, link, habits, max_batch="4", admin_key=KEY) as service:
        yield service, link


def reload(service: Running) -> httpx.Response:
    return httpx.post(f"{service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)


def test_a_reload_that_does_not_fit_is_refused_before_it_begins(bundle: Bundle, other: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, 1.5) as (service, link):
        cold = service.log().count("cold shape")
        point(link, other.path)
        answer = reload(service)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_bundle")
        for told in ("needs about", "for its weights", "to run", "are free", "end what else is on it"):
            assert told in answer.json()["error"]["message"]
        assert "out of memory" not in answer.text + service.log()
        assert service.log().count("cold shape") == cold
        assert embed(service, "a").json()["model"] == bundle.id
        assert service.metric("sightword_reloads_total", outcome="failed") == 1


def test_a_reload_that_fits_is_done(bundle: Bundle, other: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, 2.5) as (service, link):
        point(link, other.path)
        assert reload(service).status_code == 200
        assert embed(service, "a").json()["model"] == other.id
        point(link, bundle.path)
        assert reload(service).status_code == 200  # the memory of the first was given back
