"""A model by its name: pulled by a process of its own while the service answers, then served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, clean_environment, running, starting, wait_until_ready
from model.bundle import Bundle
from model.manifest import BundleError
from service.pulling import Puller
from tests.model.hub.hub_server import Hub, playing_hub
from tests.model.hub.published_models import NAME, save_huggingface

KEY = "an operator's long key"
WEIGHTS = "cdn/model.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_huggingface(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with playing_hub() as hub:
        hub.add(NAME, checkpoint)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def wait_until(true: Callable[[], object], service: Running) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, service.log()
        time.sleep(0.01)


def test_a_name_is_pulled_converted_verified_and_served(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    hub.pause_s = 0.3
    with starting(tmp_path, Path(NAME), home=str(home), admin_key=KEY) as service:
        wait_until(lambda: hub.sent(WEIGHTS), service)
        assert httpx.get(f"{service.url}/health/live", timeout=PATIENCE_S).status_code == 200
        waiting = httpx.get(f"{service.url}/health/ready", timeout=PATIENCE_S)
        assert (waiting.status_code, waiting.json()["error"]["code"]) == (503, "unavailable")
        hub.pause_s = 0
        wait_until_ready(service)
        answer = httpx.post(f"{service.url}/embed", json={"inputs": ["a cat", "a dog"]}, timeout=PATIENCE_S).json()
        assert answer["model"] == "an-org--a-model"
        assert len(answer["data"][1]["embedding"]) == 24
        assert f"{NAME}: {hub.url}/{NAME}, mit" in service.log()
        assert "100 %" in service.log()
        assert "serve it" not in service.log()
        [told] = [line for line in map(json.loads, service.log().splitlines()) if "is no folder" in line["message"]]
        assert (told["level"], told["message"].partition(" ")[0]) == ("warning", NAME)
        assert "is not a setting" not in service.log()
        reloaded = httpx.post(f"{service.url}/admin/reload", headers={"x-api-key": KEY}, timeout=PATIENCE_S)
        assert reloaded.json()["models"][0]["changed"] is False
        bundle = Bundle.load(home / "bundles" / "an-org--a-model")
        (bundle.path / "image.onnx").write_bytes(b"altered")
        refused = httpx.post(f"{service.url}/admin/reload", headers={"x-api-key": KEY}, timeout=PATIENCE_S)
        assert refused.status_code == 422
        assert "image.onnx" in refused.text
        assert str(tmp_path) not in refused.text


def test_a_model_that_was_pulled_before_needs_no_hub(hub: Hub, bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "ViT-B-32").symlink_to(bundle_path)
    with running(tmp_path, Path("ViT-B/32"), home=str(tmp_path), offline="1") as service:
        assert httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, timeout=PATIENCE_S).is_success
    assert not hub.requests


def test_a_folder_comes_before_a_name(
    hub: Hub, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    Path("an-org").mkdir()
    Path(NAME).symlink_to(bundle_path)
    with running(tmp_path, Path(NAME), home=str(tmp_path / "home")):
        pass
    assert not hub.requests


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("an-org/nobody", {}, "HF_TOKEN"),
        (NAME, {"offline": "1"}, "SIGHTWORD_OFFLINE"),
        ("ViT-B-33", {}, "did you mean"),
        ("/no/such/folder", {}, "bundle.json is missing"),
    ],
)
def test_a_pull_that_fails_ends_the_start_with_its_reason(
    hub: Hub, tmp_path: Path, model: str, settings: dict[str, str], reason: str
) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--model", model],
        env=clean_environment({"home": str(tmp_path), "label_sets": str(tmp_path / "label-sets"), **settings}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert outcome.returncode == 1
    [last_words] = [line for line in map(json.loads, outcome.stderr.splitlines()) if line["level"] == "critical"]
    assert last_words["message"].startswith("cannot start: ")
    assert model in last_words["message"]
    assert reason in last_words["message"]
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("model", [NAME, f"{NAME}@main", "exports/of/mine"])
def test_a_folder_that_is_missing_is_not_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path / "home"))
    Path("an-org").mkdir()
    with pytest.raises(BundleError, match=f"the folder {model} is missing.*python -m model pull ORGANISATION/NAME"):
        Puller().find(model)
    assert not hub.requests
    pulled = tmp_path / "home" / "bundles" / "an-org--a-model"
    pulled.mkdir(parents=True)
    (pulled / "bundle.json").touch()
    assert Puller().find(f"hf-hub:{NAME}") == Puller().find(NAME) == pulled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_pull_ends_both(hub: Hub, tmp_path: Path, number: int) -> None:
    hub.pause_s = 0.3
    with starting(tmp_path, Path(NAME), home=str(tmp_path / "home")) as service:
        wait_until(lambda: any(file.stat().st_size for file in tmp_path.rglob("model.safetensors.partial")), service)
        [child] = psutil.Process(service.process.pid).children()
        assert service.stop(number, wait_s=30) == 0
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert "cannot start" not in service.log()
    [partial] = (tmp_path / "home").rglob("*.partial")
    assert partial.stat().st_size
