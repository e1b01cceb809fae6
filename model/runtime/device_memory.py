"""The memory of a GPU: how much of it there is, and what it reads like when it runs out."""

from __future__ import annotations

from typing import NamedTuple

from model.runtime.gpu import CudaDriver, NoDriverError

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for want of memory: a smaller one may pass."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in NO_MEMORY)


def read_device_memory(device: int = 0) -> DeviceMemory | None:
    """Memory of the GPU of that number; None without a driver. May take as long as the driver does. Raises GpuError."""
    try:
        driver = CudaDriver()
    except NoDriverError:
        return None
    free, total = driver.memory(device)
    return DeviceMemory(total, free)
