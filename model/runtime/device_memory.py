"""The memory of a GPU: how much of it there is, and what it reads like when it runs out."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

LIBRARY = "libcuda.so.1"  # of the driver: wherever CUDA runs, it is there
# What onnxruntime's arena, CUDA, its libraries and TensorRT say, in small letters; their errors have no class of it.
NO_MEMORY = (
    "failed to allocate memory for requested buffer",
    "is smaller than requested bytes",
    "out of memory",
    "outofmemory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",
    "bad_alloc",
    "bad allocation",
)


class DeviceMemory(NamedTuple):
    """Bytes of one device, of which others than this process may hold some, too."""

    total: int
    free: int


class CudaDriverError(RuntimeError):
    """The driver does not do what it was asked for; the message holds CUDA's number of the error."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for want of memory: a smaller one may pass."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in NO_MEMORY)


def read_device_memory(device: int = 0) -> DeviceMemory | None:
    """Memory of the device of that number, as CUDA_VISIBLE_DEVICES leaves them to be counted; None without a driver.

    Asks through the context that onnxruntime has on it, too, and makes one where there is none yet. May take as long as
    the driver does. Raises CudaDriverError.
    """
    try:
        driver: Any = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _check(driver.cuInit(0))
    _check(driver.cuDeviceGet(ctypes.byref(handle), device))
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle))
    try:
        _check(driver.cuCtxPushCurrent_v2(context))
        try:
            _check(driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(handle)
    return DeviceMemory(total.value, free.value)


def _check(result: int) -> None:
    if result:
        raise CudaDriverError(f"the CUDA driver answers with error {result}")
