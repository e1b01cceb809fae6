"""A model whose network open_clip builds, from the hub to vectors over HTTP: every step a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.service_process import PATIENCE_S, clean_environment, starting, wait_until_ready
from model.bundle import Bundle
from model.library_config import LibraryConfig
from tests.model.checkpoints.library.test_state_dicts import CONVNEXT
from tests.model.checkpoints.openclip.models import build, save_folder
from tests.model.hub.hub_server import Hub, playing_hub
from tests.service import pictures

ROOT = Path(__file__).parents[2]
NAME = "an-org/a-convnext"
SHIMS = ROOT / "tests" / "shims"
SENTENCES = ["a dog", "A photo of TWO cafés!", "it's 3 o'clock &amp; time for tea"]
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "open_clip":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture(scope="module")
def network(open_clip: Any) -> Any:
    return build(open_clip, CONVNEXT)


@pytest.fixture
def hub(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{SHIMS}")
    folder = save_folder(network, CONVNEXT, tmp_path / "published", weights="open_clip_model.safetensors")
    with playing_hub() as hub:
        hub.add(NAME, folder)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_it_is_pulled_built_by_open_clip_and_served(hub: Hub, network: Any, open_clip: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with starting(tmp_path, Path(NAME), home=str(home)) as service:
        wait_until_ready(service)
        assert f"built by open_clip {open_clip.__version__}" in service.log()
        picture = pictures.as_base64("rocket")
        answers = [
            httpx.post(f"{service.url}/embed", json={"inputs": inputs}, timeout=PATIENCE_S).json()
            for inputs in (list(SENTENCES), [{"image": picture}])
        ]
    bundle = Bundle.load(home / "bundles" / "an-org--a-convnext")
    assert isinstance(bundle.manifest.config, LibraryConfig)
    texts, images = ([item["embedding"] for item in answer["data"]] for answer in answers)
    assert answers[0]["model"] == "an-org--a-convnext"
    assert np.shape(images) == (1, 32)
    with torch.no_grad():
        theirs = F.normalize(
            network.encode_text(open_clip.tokenizer.SimpleTokenizer(context_length=77)(SENTENCES)), dim=-1
        )
    np.testing.assert_allclose(texts, theirs.numpy(), atol=1e-4)


def test_without_the_extra_the_start_ends_with_what_to_install(hub: Hub, tmp_path: Path) -> None:
    """The reason of the pull, whole, and not the last line of it."""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(HIDING)
    settings = {"home": str(tmp_path / "home"), "label_sets": str(tmp_path / "label-sets")}
    environment = clean_environment(settings) | {"PYTHONPATH": f"{tmp_path / 'hiding'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--model", NAME],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    [last_words] = [line for line in map(json.loads, done.stderr.splitlines()) if line["level"] == "critical"]
    message = last_words["message"]
    assert f"{NAME} cannot be imported" in message
    assert "timm_model_name" in message
    assert "open_clip is not installed, and this command needs it. It comes with the extra `convert-all`" in message
    assert "pip install" in message
    assert "convert-all]" in message
    assert "Traceback" not in done.stderr
