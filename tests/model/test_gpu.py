"""What the driver's library says of GPUs, by one that says what the variables FAKE_* hold; nothing needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.runtime import gpu
from model.runtime.gpu import Gpu, GpuError, find_gpu
from tests.model.nvidia import compile_driver


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(gpu, "DRIVER_LIBRARY", str(library))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_a_gpu_is_described(driver: pytest.MonkeyPatch) -> None:
    driver.setenv("FAKE_NAME", "NVIDIA H100 80GB HBM3")
    driver.setenv("FAKE_CAPABILITY", "90")
    found = find_gpu(1, 13)
    assert found == Gpu(1, "NVIDIA H100 80GB HBM3", (9, 0), 24 * 2**30)
    assert str(found) == "NVIDIA H100 80GB HBM3 (GPU 1, 24 GiB, compute 9.0)"


@pytest.mark.parametrize(
    ("name", "value", "index", "cuda", "parts"),
    [
        ("FAKE_CUDA", "12080", 0, 13, ["too old", "CUDA 12.8", "CUDA 13", "580"]),
        ("FAKE_CUDA", "11040", 0, 12, ["too old", "CUDA 11.4", "CUDA 12", "525"]),
        ("FAKE_INIT", "100", 0, 13, ["shows this process no GPU", "--gpus all"]),
        ("FAKE_COUNT", "0", 0, 13, ["shows this process no GPU"]),
        ("FAKE_INIT", "999", 0, 13, ["does not start", "999, unknown error", "nvidia-smi"]),
        ("FAKE_INIT", "803", 0, 13, ["does not start", "error 803"]),
        ("FAKE_GET", "101", 0, 13, ["error 101"]),
        ("FAKE_COUNT", "2", 2, 13, ["SIGHTWORD_DEVICE is 2", "0 to 1", "NVIDIA L4 (GPU 1"]),
    ],
)
def test_why_there_is_none(
    driver: pytest.MonkeyPatch, name: str, value: str, index: int, cuda: int, parts: list[str]
) -> None:
    driver.setenv(name, value)
    with pytest.raises(GpuError) as error:
        find_gpu(index, cuda)
    for part in parts:
        assert part in str(error.value)


def test_a_newer_driver_and_a_later_minor_version_are_good(driver: pytest.MonkeyPatch) -> None:
    for version in ("13000", "13050", "14000"):
        driver.setenv("FAKE_CUDA", version)
        assert find_gpu(0, 13).index == 0


def test_gpus_that_the_environment_hides_are_not_called_missing(driver: pytest.MonkeyPatch) -> None:
    driver.setenv("FAKE_INIT", "100")
    driver.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(GpuError, match="CUDA_VISIBLE_DEVICES is ''"):
        find_gpu(0, 13)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER_LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(GpuError, match=r"no NVIDIA driver: .*580 or newer.*--gpus all"):
        find_gpu(0, 13)
