from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.hub.settings import HubSettings
from tests.model.hub.hub_server import Hub, playing_hub
from tests.model.hub.published_models import NAME, save_huggingface
from tests.model.hub.recorder import Recorder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with playing_hub() as hub:
        yield hub


@pytest.fixture
def reporter() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def environment(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's settings."""
    for name in list(os.environ):
        if name.startswith(("SIGHTWORD_", "HF_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path / "home"))


@pytest.fixture
def settings(environment: None) -> HubSettings:
    return HubSettings.read()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_huggingface(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def model_hub(hub: Hub, checkpoint: Path) -> Hub:
    hub.add(NAME, checkpoint)
    return hub
