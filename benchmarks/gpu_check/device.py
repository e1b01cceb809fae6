"""What NVIDIA's driver says of the GPU, through its management library (NVML), which comes with it."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from typing import Any

from model.runtime.processor import processor_name

NO_GPU = "no GPU"
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
VERSION_BYTES = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


class NoGpuError(RuntimeError):
    """There is no GPU of NVIDIA, or no driver for it."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@cache
def _nvml() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        raise NoGpuError(f"no driver of NVIDIA is here: {error}") from error
    _require(library.nvmlInit_v2())
    return library


def _require(code: int) -> None:
    if code:
        raise NoGpuError(f"NVML says {code}, see nvmlReturn_t in its reference")


def _handle() -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _require(_nvml().nvmlDeviceGetHandleByIndex_v2(_visible_index(), ctypes.byref(handle)))
    return handle


def _visible_index() -> int:
    """Of the first GPU that CUDA shows: NVML counts all."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    return int(first) if first.isdigit() else 0


def used_bytes() -> int:
    """Memory of the GPU that all processes hold. Raises NoGpuError."""
    return int(_memory().used)


def free_bytes() -> int:
    """Memory of the GPU that nobody holds. Raises NoGpuError."""
    return int(_memory().free)


def _memory() -> _Memory:
    memory = _Memory()
    _require(_nvml().nvmlDeviceGetMemoryInfo(_handle(), ctypes.byref(memory)))
    return memory


def gpu() -> dict[str, str]:
    """Name, compute capability, memory, driver, and the newest CUDA that the driver knows. Raises NoGpuError."""
    library, handle = _nvml(), _handle()
    name, driver = ctypes.create_string_buffer(NAME_BYTES), ctypes.create_string_buffer(VERSION_BYTES)
    cuda, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _require(library.nvmlDeviceGetName(handle, name, NAME_BYTES))
    _require(library.nvmlSystemGetDriverVersion(driver, VERSION_BYTES))
    _require(library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)))
    _require(library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)))
    return {
        "GPU": name.value.decode(),
        "compute capability": f"{major.value}.{minor.value}",
        "memory": f"{_memory().total / 2**30:.1f} GiB",
        "driver": driver.value.decode(),
        "CUDA of the driver": f"{cuda.value // 1000}.{cuda.value % 1000 // 10}",
    }


def has_gpu(device: str) -> bool:
    """Whether a GPU is meant, and there."""
    return device == "cuda" and device_name(device) != NO_GPU


def device_name(device: str) -> str:
    """Of the GPU, or where there is none or it is not meant, of what is there."""
    if device == "cuda":
        with suppress(NoGpuError):
            return gpu()["GPU"]
        return NO_GPU
    return f"CPU {processor_name()}"
