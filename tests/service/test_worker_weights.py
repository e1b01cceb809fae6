"""Workers of one service have its weights in memory once, also after one was replaced and after a reload."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running
from model.bundle import Bundle, bundled
from model.runtime.engine import Engine
from service.workers.weights_folder import PREFIX, weights_folder
from tests.service.several_workers import COUNT, several, starts, wait_until, workers_of

ADMIN = "an-admin-key"
WORDS = ["a cat", "a photo of two dogs on the beach"]


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def mapped(service: Running) -> list[set[str]]:
    """Of each worker, the files of weights that it has mapped."""
    return [{each.path for each in worker.memory_maps() if PREFIX in each.path} for worker in workers_of(service)]


def shares(service: Running) -> bool:
    """Whether all workers have mapped the same files, which are still there."""
    first, *others = mapped(service)
    return len(first) == 2 and all(other == first for other in others) and all(map(os.path.exists, first))


def vectors(service: Running) -> np.ndarray:
    with httpx.Client(timeout=PATIENCE_S) as http:
        answer = http.post(f"{service.url}/embed", json={"inputs": WORDS}).json()
    return np.array([item["embedding"] for item in answer["data"]], np.float32)


def test_weights_are_there_once(tmp_path: Path, temporary_files: Path) -> None:
    served = tmp_path / "served"
    served.symlink_to(bundled())
    with several(tmp_path, served, admin_key=ADMIN, cache_bytes="0") as service:
        assert shares(service)
        assert httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"][0]["shares_weights"] is True
        bundle = Bundle.load(bundled())
        tokenizer = bundle.tokenizer()
        alone = [Engine(bundle, "cpu", 1).embed_texts(tokenizer.pad(tokenizer.encode([word])))[0] for word in WORDS]
        np.testing.assert_allclose(vectors(service), alone, atol=1e-6)
        before = mapped(service)[0]
        workers_of(service)[0].kill()
        wait_until(lambda: starts(service) == COUNT + 1 and len(workers_of(service)) == COUNT)
        assert shares(service)
        assert mapped(service)[0] == before
        service.process.send_signal(signal.SIGKILL)  # which leaves the files behind
        workers = workers_of(service)
        psutil.wait_procs(workers, PATIENCE_S)
    [left] = temporary_files.glob(f"{PREFIX}*")
    with several(tmp_path, served, cache_bytes="0"):
        [folder] = temporary_files.glob(f"{PREFIX}*")
        assert folder != left
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(temporary_files.glob(f"{PREFIX}*"))


def test_services_that_start_at_once_leave_each_other_their_folders(
    temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary_files))
    ended = threading.Event()

    def start_again_and_again() -> None:
        while not ended.is_set():
            with weights_folder():
                pass

    other = threading.Thread(target=start_again_and_again)
    other.start()
    try:
        for _ in range(500):
            with weights_folder() as folder:
                assert folder is not None
                assert folder.is_dir()
    finally:
        ended.set()
        other.join()
    assert not list(temporary_files.iterdir())


def test_a_reload_brings_other_files(bundle_path: Path, other_bundle: Bundle, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.symlink_to(bundle_path)
    with several(tmp_path, served, admin_key=ADMIN) as service:
        before = mapped(service)[0]
        link = tmp_path / "next"
        link.symlink_to(other_bundle.path)
        link.replace(served)
        reloaded = httpx.post(f"{service.url}/admin/reload", headers={"x-api-key": ADMIN}, timeout=PATIENCE_S)
        assert reloaded.status_code == 200, reloaded.text
        wait_until(lambda: shares(service) and not before & mapped(service)[0])
        wait_until(lambda: not any(map(os.path.exists, before)))


def test_only_what_is_ones_own_is_removed(tmp_path: Path, temporary_files: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (temporary_files / f"{PREFIX}link").symlink_to(elsewhere)
    left = temporary_files / f"{PREFIX}left"
    left.mkdir()
    others = temporary_files / f"{PREFIX}others"
    others.mkdir()
    if os.geteuid() == 0:
        os.chown(others, 12345, 12345)
    tempfile.tempdir = None
    with weights_folder() as running, weights_folder() as folder:
        assert running is not None
        assert running.is_dir()
        assert folder is not None
        assert folder.is_dir()
        assert not left.exists()
        assert (elsewhere / "kept").exists()
        assert others.exists() == (os.geteuid() == 0)
    tempfile.tempdir = None
    assert not running.exists()
    assert not folder.exists()
    shutil.rmtree(others, ignore_errors=True)
