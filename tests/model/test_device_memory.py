"""Memory of a GPU, with a stand-in for the driver's library; and the words in which others say that it has run out."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from model.runtime import gpu
from model.runtime.device_memory import DeviceMemory, is_out_of_memory, read_device_memory
from model.runtime.gpu import GpuError

FREE, TOTAL = 3 * 2**30, 16 * 2**30


class FakeDriver:
    """The calls of libcuda.so.1; `failing` answers with an error."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuMemGetInfo_v2":
                arguments[0]._obj.value, arguments[1]._obj.value = FREE, TOTAL
            if name == "cuGetErrorString":
                return 1
            return 999 if name == self.failing else 0

        return call


def test_free_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert read_device_memory() == DeviceMemory(TOTAL, FREE)
    assert driver.calls[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuMemGetInfo_v2"])
def test_a_driver_that_refuses(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    driver = FakeDriver(call)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with pytest.raises(GpuError, match="error 999"):
        read_device_memory()
    assert ("cuDevicePrimaryCtxRelease_v2" in driver.calls) == (call == "cuMemGetInfo_v2")


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER_LIBRARY", "libcuda-that-is-nowhere.so.1")
    assert read_device_memory() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Failed to allocate memory for requested buffer of size 805306368", True),
        ("Available memory of 52428800 is smaller than requested bytes of 805306368", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu", True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", True),
        ("CUDNN failure 5003: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", False),
        ("CUDA failure 700: an illegal memory access was encountered", False),
        ("Got invalid dimensions for input: token_ids", False),
    ],
)
def test_what_has_run_out_of_memory(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) is expected
    assert is_out_of_memory(MemoryError())
