"""What installs onnxruntime for GPUs from a folder of wheels: beside the one for CPUs, and never over it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu_check.install import link_libraries, site_packages

ROOT = Path(__file__).parents[2]


def _wheel(folder: Path, name: str, module: str, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    info = f"{name}-99.0.dist-info"
    file = folder / f"{name}-99.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return file


def _install(environment: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "benchmarks.gpu_check.install", str(environment), str(wheels)]
    return subprocess.run(called, capture_output=True, text=True, timeout=200, cwd=ROOT)


def _imported(python: Path | str, what: str) -> str:
    done = subprocess.run(
        [str(python), "-c", f"import {what} as it; print(it.__file__)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_one_for_gpus_is_found_first_and_the_other_is_left_alone(tmp_path: Path) -> None:
    before = _imported(sys.executable, "onnxruntime")
    wheels = tmp_path / "wheels"
    _wheel(wheels, "onnxruntime_gpu", "onnxruntime", "GPU = True\n")
    done = _install(tmp_path / "gpu", wheels)
    assert done.returncode == 0, done.stdout + done.stderr
    python = tmp_path / "gpu" / "bin" / "python"
    assert _imported(python, "onnxruntime") == str(site_packages(tmp_path / "gpu") / "onnxruntime" / "__init__.py")
    assert _imported(python, "numpy") == _imported(sys.executable, "numpy")  # what is there is not fetched again
    assert _imported(sys.executable, "onnxruntime") == before
    assert not (site_packages(tmp_path / "gpu") / "torch").exists()


def test_a_folder_without_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    done = _install(tmp_path / "gpu", tmp_path / "wheels")
    assert done.returncode == 1
    assert f"onnxruntime-gpu could not be installed from {tmp_path / 'wheels'}" in done.stderr


def test_libraries_that_came_with_torch_are_shown_and_none_is_hidden(tmp_path: Path) -> None:
    there, here = tmp_path / "torch" / "nvidia", tmp_path / "gpu" / "nvidia"
    for name in ("cudnn", "cu13"):
        (there / name / "lib").mkdir(parents=True)
    (here / "cudnn").mkdir(parents=True)
    link_libraries(there, here)
    assert (here / "cu13" / "lib").is_dir()
    assert not (here / "cudnn").is_symlink()
    link_libraries(tmp_path / "nothing", here)


@pytest.mark.parametrize("path", ["benchmarks/gpu_check/install.py"])
def test_it_needs_nothing_that_is_yet_to_be_installed(path: str) -> None:
    called = [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(ROOT / path)!r})"]
    assert subprocess.run(called, capture_output=True, timeout=60).returncode == 0
