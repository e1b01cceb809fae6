"""How to install what is missing: the command that works for what is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from model.requirements import TORCH, TORCHVISION, pip_install

ROOT = Path(__file__).parents[2]
CODE = "from model.requirements import pip_install; print(pip_install('gpu'))"


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """A folder with the module, as pip would leave it."""
    package = tmp_path / "site-packages" / "model"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "model" / "requirements.py", package)
    return package.parent


def said(folder: Path, record: dict[str, Any] | str | None) -> str:
    """What it says, installed there with that `direct_url.json`."""
    metadata = folder / "sightword-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: sightword\nVersion: 0.1.0\n")
    if record is not None:
        (metadata / "direct_url.json").write_text(record if isinstance(record, str) else json.dumps(record))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_in_a_clone_it_is_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert pip_install("cpu") == 'pip install --editable ".[cpu]"'
    monkeypatch.chdir(tmp_path)
    assert pip_install("cpu") == f'pip install --editable "{ROOT}[cpu]"'
    tmp_path.rmdir()
    assert pip_install("cpu") == f'pip install --editable "{ROOT}[cpu]"'


@pytest.mark.parametrize("record", [None, "no JSON", {"url": "file:///nowhere/sightword-0.1.0-py3-none-any.whl"}])
def test_from_an_index_or_from_what_is_gone_it_is_the_name(site_packages: Path, record: Any) -> None:
    assert said(site_packages, record) == 'pip install "sightword[gpu]"'


def test_from_a_wheel_it_is_the_wheel(site_packages: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "of mine" / "sightword-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    record = {"url": wheel.as_uri(), "archive_info": {}}
    assert said(site_packages, record) == f'pip install "sightword[gpu] @ {wheel.as_uri()}"'


def test_from_a_repository_it_is_its_commit(site_packages: Path) -> None:
    repository = {"vcs": "git", "commit_id": "0f21fe98f8e5ec29db99eda95ca6ce3e78ff8a2b"}
    record = {"url": "https://git.example/sightword.git", "vcs_info": repository}
    expected = f"git+https://git.example/sightword.git@{repository['commit_id']}"
    assert said(site_packages, record) == f'pip install "sightword[gpu] @ {expected}"'


BUILDS = """
import importlib.metadata, importlib.util, json
from model import requirements
requirements.version = lambda name: {build!r}
requirements._is_here = lambda module: module in {here!r}
extra = "convert-all"
print(json.dumps([requirements.install_commands(extra), requirements.how_to_install("open_clip", extra)]))
"""


def commands(site_packages: Path, build: str, here: list[str]) -> tuple[list[str], str]:
    code = BUILDS.format(build=build, here=here)
    environment = {**os.environ, "PYTHONPATH": str(site_packages)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site_packages, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told: tuple[list[str], str] = tuple(json.loads(done.stdout))
    return told


@pytest.mark.parametrize(
    ("build", "here", "first"),
    [
        ("", ["onnxruntime"], f"{TORCH} {TORCHVISION}"),
        ("2.13.0", ["onnxruntime", "torch"], TORCHVISION),
        ("2.13.0+cpu", ["onnxruntime", "torch"], f"{TORCHVISION}+cpu"),
        ("2.13.0+cu130", ["onnxruntime", "torch"], f"{TORCHVISION}+cu130"),
        ("2.13.0+cpu", ["onnxruntime", "torch", "torchvision"], None),
    ],
)
def test_torchvision_is_of_the_build_of_torch_and_comes_before_what_asks_for_it(
    site_packages: Path, build: str, here: list[str], first: str | None
) -> None:
    installs, message = commands(site_packages, build, here)
    assert '"sightword[convert-all]' in installs[-1]
    assert [command.partition(" pip install ")[2] for command in installs[:-1]] == ([first] if first else [])
    assert ("builds for CPU and GPU do not mix" in message) == (first is not None)
    assert all(f"  {command}" in message.splitlines() for command in installs)


def test_the_extra_is_known_with_its_versions() -> None:
    """What is installed before it is what it asks for, and what is tested."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    tested = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert {TORCH, TORCHVISION} <= set(tested)
    assert f"$(PIP) {TORCH} {TORCHVISION}" in (ROOT / "Makefile").read_text("utf-8")
    extra = project["optional-dependencies"]["convert-all"]
    assert "sightword[convert]" in extra
    for line in extra:
        name, _, lowest = line.partition(">=")
        assert not lowest or any(pin.partition("==")[0].replace("_", "-") == name.replace("_", "-") for pin in tested)


def test_the_list_of_an_image_names_no_extra_of_ours() -> None:
    """Which pip would look for in an index."""
    program = [sys.executable, "deploy/requirements.py", "cpu", "convert-all"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.split()
    assert TORCH in lines
    assert not [line for line in lines if line.startswith("sightword")]
    assert len(lines) == len(set(lines))
