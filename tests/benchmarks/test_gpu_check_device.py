"""What gpu-check asks of NVIDIA's libraries, which libraries of the same names and calls answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvidia.c")


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which both libraries are found."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("nvidia")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / name), str(SOURCE)], check=True, timeout=60)
    return os.environ | {"LD_LIBRARY_PATH": str(folder)}


def _printed(environment: dict[str, str], expression: str) -> str:
    called = [sys.executable, "-c", f"from benchmarks.gpu_check import device as it; print({expression})"]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() or done.stderr


def test_the_gpu_is_described(nvidia: dict[str, str]) -> None:
    assert eval(_printed(nvidia, "it.gpu()")) == {
        "GPU": "NVIDIA Fake 1", "compute capability": "8.7", "memory": "1.0 GiB", "driver": "580.95.05",
        "CUDA of the driver": "13.2",
    }  # fmt: skip
    assert _printed(nvidia, "it.used_bytes() >> 20") == "100"
    report = "__import__('benchmarks.gpu_check.report', fromlist=['page_name']).page_name('cuda')"
    assert _printed(nvidia, report) == "RESULTS-nvidia-fake-1.md"


def test_the_first_visible_gpu_is_meant(nvidia: dict[str, str]) -> None:
    assert _printed(nvidia | {"CUDA_VISIBLE_DEVICES": "1,0"}, "it.used_bytes() >> 20") == "100"
    assert "NVML says 6" in _printed(nvidia | {"CUDA_VISIBLE_DEVICES": "7"}, "it.used_bytes()")


def test_memory_is_held_until_it_is_let_go(nvidia: dict[str, str]) -> None:
    code = """
from benchmarks.gpu_check.eat_memory import eaten
with eaten(32 * 2**20) as held:
    print(held >> 20)
print("let go")
"""
    done = subprocess.run([sys.executable, "-c", code], env=nvidia, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == [str(1024 - 100 - 32), "let go"], done.stderr


def test_a_machine_without_a_driver_says_so() -> None:
    code = "from benchmarks.gpu_check.eat_memory import eaten\nwith eaten(0): pass"
    environment = os.environ | {"LD_LIBRARY_PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    if (
        done := subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    ).returncode == 0:
        pytest.skip("there is a driver here")
    assert "the process that is to hold the GPU's memory did not start" in done.stderr
