"""The client as a distribution of its own: two dependencies, in an environment with nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import model
import sightword
from benchmarks.service_process import Running, clean_environment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sightword"
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))


def test_its_version_is_that_of_the_project() -> None:
    assert sightword.__version__ == model.__version__


def test_all_its_packages_are_listed_and_it_needs_two_distributions() -> None:
    """But for the command, which needs the whole of Sightword."""
    found = {
        ".".join(("sightword", *file.parent.relative_to(FOLDER).parts))
        for file in FOLDER.rglob("__init__.py")
        if "build" not in file.relative_to(FOLDER).parts
    }
    of_the_command = {name for name in found if name.startswith("sightword.command")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found - of_the_command
    assert [re.split("[<>=]", each)[0] for each in PROJECT["project"]["dependencies"]] == ["httpx", "numpy"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(PROJECT["project"]["dependencies"]) <= set(whole["dependencies"])
    assert PROJECT["project"]["requires-python"] == whole["requires-python"]


PROGRAM = """
import sys, importlib.util, sightword
from pathlib import Path
with sightword.Client(sys.argv[1]) as client:
    cat = Path(sys.argv[2])
    print(client.embed(["a cat", cat]).shape[0], client.classify(cat, ["cat", "dog"])[0].label)
assert not any(importlib.util.find_spec(name) for name in ("model", "onnxruntime", "PIL", "pydantic"))
try:
    sightword.load()
except sightword.errors.MissingDependencyError as error:
    print(error)
"""


@pytest.mark.timeout(600)
def test_in_an_empty_environment_it_embeds(service: Running, tmp_path: Path) -> None:
    """`pip install ./sightword`, and nothing of this repository beside it. A minute or less, with a package index."""
    shutil.copytree(FOLDER, tmp_path / "sightword", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True, timeout=300)
    pip = [tmp_path / "empty/bin/pip", "install", "--disable-pip-version-check", "--quiet", tmp_path / "sightword"]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=500, check=False)
    if installed.returncode and re.search(
        "connection|network|No matching distribution|resolve", installed.stderr, re.I
    ):
        pytest.skip("no package index can be reached from here")
    assert installed.returncode == 0, installed.stderr
    environment = {name: value for name, value in clean_environment({}).items() if name != "PYTHONPATH"}
    cat = ROOT / "model/probe_data/chelsea.jpg"
    ran = subprocess.run(
        [tmp_path / "empty/bin/python", "-c", PROGRAM, service.url, cat],
        cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, *rest = ran.stdout.splitlines()
    assert first == "2 cat"
    assert 'only its client is installed: pip install "sightword[cpu]"' in rest[0]
    assert (next((tmp_path / "empty/lib").iterdir()) / "site-packages/sightword/py.typed").exists()
