"""How to install what is missing: the command that works for what is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.requirements import pip_install

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
