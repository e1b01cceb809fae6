"""The NVIDIA GPUs of this machine, as the driver itself describes them: no package and no GPU need be there to ask.

The driver, and not NVML: it counts as onnxruntime will, with CUDA_VISIBLE_DEVICES and without what a container hides.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any

DRIVER_LIBRARY = "libcuda.so.1"
# The oldest driver for each major version of CUDA: https://docs.nvidia.com/deploy/cuda-compatibility
OLDEST_DRIVERS = {12: 525, 13: 580}
# Of cuda.h, CUresult and CUdevice_attribute.
NO_DEVICE = 100
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
NAME_BYTES = 256


class GpuError(RuntimeError):
    """No GPU can be used; the message says why, and what to do about it."""


class NoDriverError(GpuError):
    """This machine, or this container, has no NVIDIA driver."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One of those that this process may use."""

    index: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int

    @property
    def capability_name(self) -> str:
        """As NVIDIA writes it: `9.0`."""
        return ".".join(map(str, self.capability))

    def __str__(self) -> str:
        return f"{self.name} (GPU {self.index}, {self.memory_bytes / 2**30:.0f} GiB, compute {self.capability_name})"


def find_gpu(index: int, cuda: int) -> Gpu:
    """Describe the GPU of that index, for a library that was built for that major version of CUDA.

    Raises GpuError where there is no driver, none that is new enough, or no such GPU.
    """
    driver = CudaDriver()
    supported = driver.cuda_version()
    if supported // 1000 < cuda:
        raise GpuError(
            f"the NVIDIA driver is too old: it runs CUDA {supported // 1000}.{supported % 1000 // 10}, and this "
            f"onnxruntime is built for CUDA {cuda}, which wants a driver of version {OLDEST_DRIVERS.get(cuda, 580)} or "
            "newer (nvidia-smi shows the one installed)"
        )
    count = driver.count()
    if not count:
        raise GpuError(_none_visible())
    if index >= count:
        those = "; ".join(str(driver.describe(each)) for each in range(count))
        raise GpuError(f"SIGHTWORD_DEVICE is {index}, but the GPUs here are numbered 0 to {count - 1}: {those}")
    return driver.describe(index)


class CudaDriver:
    """Calls of the driver's library, which need no CUDA of any other kind. All raise GpuError."""

    def __init__(self) -> None:
        """Start the driver. Raises NoDriverError where there is none."""
        try:
            self._library: Any = ctypes.CDLL(DRIVER_LIBRARY)
        except OSError as error:
            raise NoDriverError(
                f"no NVIDIA driver: {error}; install one of version {OLDEST_DRIVERS[13]} or newer, and in a container, "
                "start it with `--gpus all` (NVIDIA Container Toolkit)"
            ) from None
        code = self._library.cuInit(0)
        if code == NO_DEVICE:
            raise GpuError(_none_visible())
        if code:
            raise GpuError(
                f"the NVIDIA driver does not start: {self._error(code)}; does nvidia-smi work here? After an update of "
                "the driver, the machine wants a restart"
            )

    def cuda_version(self) -> int:
        """The newest CUDA that it runs: 13000 for 13.0."""
        version = c_int()
        self._check(self._library.cuDriverGetVersion(byref(version)))
        return version.value

    def count(self) -> int:
        """How many GPUs this process may use."""
        count = c_int()
        self._check(self._library.cuDeviceGetCount(byref(count)))
        return count.value

    def describe(self, index: int) -> Gpu:
        """The GPU of that index, as CUDA_VISIBLE_DEVICES leaves them to be counted."""
        device, major, minor, memory = c_int(), c_int(), c_int(), c_size_t()
        name = ctypes.create_string_buffer(NAME_BYTES)
        self._check(self._library.cuDeviceGet(byref(device), index))
        self._check(self._library.cuDeviceGetName(name, NAME_BYTES, device))
        self._check(self._library.cuDeviceGetAttribute(byref(major), CAPABILITY_MAJOR, device))
        self._check(self._library.cuDeviceGetAttribute(byref(minor), CAPABILITY_MINOR, device))
        self._check(self._library.cuDeviceTotalMem_v2(byref(memory), device))
        return Gpu(index, name.value.decode("utf-8", "replace"), (major.value, minor.value), memory.value)

    def memory(self, index: int) -> tuple[int, int]:
        """Free and total bytes. Asks in the context that onnxruntime has there, or makes one where there is none."""
        device, context = c_int(), c_void_p()
        free, total = c_size_t(), c_size_t()
        self._check(self._library.cuDeviceGet(byref(device), index))
        self._check(self._library.cuDevicePrimaryCtxRetain(byref(context), device))
        try:
            self._check(self._library.cuCtxPushCurrent_v2(context))
            try:
                self._check(self._library.cuMemGetInfo_v2(byref(free), byref(total)))
            finally:
                self._library.cuCtxPopCurrent_v2(byref(c_void_p()))
        finally:
            self._library.cuDevicePrimaryCtxRelease_v2(device)
        return free.value, total.value

    def _check(self, code: int) -> None:
        if code:
            raise GpuError(f"the NVIDIA driver says: {self._error(code)}")

    def _error(self, code: int) -> str:
        text = c_char_p()
        if self._library.cuGetErrorString(code, byref(text)) or text.value is None:
            return f"error {code}"
        return f"error {code}, {text.value.decode('utf-8', 'replace')}"


def _none_visible() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = "in a container, start it with `--gpus all`" if visible is None else f"CUDA_VISIBLE_DEVICES is {visible!r}"
    return f"the NVIDIA driver is there, but shows this process no GPU; {hint}"
