"""A folder that holds files named like packages of ours: the programs say so, and the command does not look there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("service", "training", "sightword")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["model.py", "model/__init__.py"])
def test_a_program_says_what_shadows_it_and_runs_none_of_it(program: str, name: str, tmp_path: Path) -> None:
    theirs = tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("raise RuntimeError('this must not run')")
    done = run(tmp_path, "-m", program, "--help")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / name.partition('/')[0]} is in the place of Sightword's own package `model`.")
    assert f"`python -P -m {program}`" in line
    assert "Usage" in run(tmp_path, "-P", "-m", program, "--help").stdout


def test_another_package_on_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.py").touch()
    done = run(tmp_path, "-m", "service", PYTHONPATH=f"{tmp_path / 'theirs'}{os.pathsep}{ROOT}")
    assert done.returncode == 1
    assert str(tmp_path / "theirs" / "model.py") in done.stderr
    assert "an environment of its own" in done.stderr


def test_a_folder_of_models_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert run(tmp_path, "-m", "service", "--help").returncode == 0


def test_the_copies_are_the_same() -> None:
    copies = {(ROOT / program / "shadowed.py").read_text("utf-8") for program in PROGRAMS}
    assert len(copies) == 1
