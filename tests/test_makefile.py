"""The commands of the Makefile say what they install and how long that takes, before they are silent for minutes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = (
    "serve", "test", "coverage", "test-openvino", "test-ray", "test-gpu-build", "test-lowest", "test-sdks", "check",
    "docs", "train", "soak", "bench", "bench-quick", "bench-peers", "gpu-check",
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", ["", "ViT-B-32", "MobileCLIP2-S2:dfndr2b"])
def test_slow_steps_are_announced(target: str, model: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    settings = [f"VENV={tmp_path / 'venv'}", f"SIGHTWORD_MODEL={model}"]
    command = ["make", "--dry-run", "--always-make", target, *settings]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    lines = ended.stdout.splitlines()
    needs_all = target == "serve" and model.startswith("MobileCLIP2")
    assert any("[cpu,convert-all]" in line for line in lines) == needs_all
    installing = [index for index, line in enumerate(lines) if "pip install" in line]
    assert installing
    for index in installing:
        assert "--quiet" not in lines[index]
        announced = [line for line in lines[:index] if line.startswith("echo")]
        assert re.search(r"minutes?", " ".join(announced)), lines
        assert any("GB" in line or "MB" in line for line in announced)
