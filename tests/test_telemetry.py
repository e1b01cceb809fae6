"""onnxruntime reports to its makers, from 1.29 on and as soon as it is imported, unless it was told not to."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import running
from model.bundle import bundled
from tests.test_house import PACKAGES, ROOT

# These are imported before any module of theirs, and tell it.
TELLING = ("benchmarks", "model")
SESSION = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


def kept_at_home(home: Path, code: str) -> list[str]:
    """What a new process that runs `code` leaves in its home folder; nothing in its environment stops reports."""
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, bundled() / "text.onnx"], env=environment, check=True, timeout=120)
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.fixture
def reports(tmp_path: Path) -> None:
    """Skips where onnxruntime itself keeps nothing, as then no test here could fail."""
    if not kept_at_home(tmp_path / "untold", SESSION):
        pytest.skip("this build of onnxruntime reports nothing")


def test_who_imports_onnxruntime_has_told_it_before() -> None:
    importing = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.partition(".")[0] == "onnxruntime" for name in names):
                    importing.add(package)
    assert importing == set(TELLING)


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize("package", TELLING)
def test_nothing_is_kept_or_sent(package: str, tmp_path: Path) -> None:
    assert kept_at_home(tmp_path / "told", f"import {package}; {SESSION}") == []


@pytest.mark.usefixtures("reports")
def test_the_service_keeps_and_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("ORT_", "CI", "GITHUB_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    with running(tmp_path, bundled(), label_sets=str(tmp_path / "sets"), workers="2") as service:
        assert httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, timeout=60).status_code == 200
    assert not list(home.iterdir())
