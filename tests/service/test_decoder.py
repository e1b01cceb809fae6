"""SIGHTWORD_DECODER: what resizes pictures, and what is told where it is not installed."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.inputs import PHOTOGRAPHS
from benchmarks.service_process import PATIENCE_S, Running, running
from model.images import decoder_names
from service.settings import Settings, SettingsError
from tests.model.pictures import encoded


def embedding(service: Running, file: bytes) -> np.ndarray:
    answer = httpx.post(
        f"{service.url}/embed", content=file, headers={"content-type": "image/jpeg"}, timeout=PATIENCE_S
    )
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["data"][0]["embedding"])


def test_the_setting_chooses_what_resizes(service: Running, bundle_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("cykooz_resizer", reason="the extra simd is not installed")
    file = encoded(Image.open(PHOTOGRAPHS / "chelsea.jpg"), "JPEG", quality=90)
    with running(tmp_path, bundle_path, decoder="simd") as fast:
        assert httpx.get(f"{fast.url}/info", timeout=PATIENCE_S).json()["settings"]["decoder"] == "simd"
        first, second = embedding(service, file), embedding(fast, file)
        assert not np.array_equal(first, second)
        assert first @ second > 0.999
        bad = httpx.post(
            f"{fast.url}/embed", content=file[:500], headers={"content-type": "image/jpeg"}, timeout=PATIENCE_S
        )
        assert bad.json()["error"]["code"] == "invalid_image"


def test_a_decoder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoder_names.MODULES, "simd", "no_such_module")
    with pytest.raises(SettingsError, match=r"SIGHTWORD_DECODER .*needs no_such_module.*pip install"):
        Settings.read({"decoder": "simd"})
    assert Settings.read({"decoder": "pillow"}).decoder == "pillow"


def test_an_unknown_decoder() -> None:
    with pytest.raises(SettingsError, match=r"SIGHTWORD_DECODER .*'pillow'.*'simd'"):
        Settings.read({"decoder": "gpu"})
