"""What stands in for CUDA's runtime library and for a session on a GPU, so that what is asked of them can be looked at.

The session is a real one of the CPU: only what it says of its provider is not so.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

CUDA_ERROR = 2


@dataclass
class CudaLibrary:
    """CUDA's functions for pinned memory; `pinned` are the bytes of each address that is."""

    fails: bool = False  # nothing can be pinned, nor made pageable again
    pinned: dict[int, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    devices: dict[int, int] = field(default_factory=dict)  # by thread

    def load(self) -> SimpleNamespace:
        """As ctypes hands it out."""
        return SimpleNamespace(
            cudaSetDevice=self._set_device,
            cudaHostRegister=self._register,
            cudaHostUnregister=self._unregister,
            cudaGetLastError=lambda: self.calls.append("cudaGetLastError"),
            cudaGetErrorString=SimpleFunction(lambda code: b"out of memory" if code == CUDA_ERROR else b"no error"),
        )

    def holds(self, address: int, size: int) -> bool:
        """Whether all of that is pinned."""
        return any(
            start <= address and address + size <= start + length for start, length in tuple(self.pinned.items())
        )

    def _set_device(self, device: ctypes.c_int) -> int:
        self.devices[threading.get_ident()] = device.value
        return 0

    def _register(self, address: ctypes.c_void_p, size: ctypes.c_size_t, flags: ctypes.c_uint) -> int:
        self.calls.append("cudaHostRegister")
        if self.fails:
            return CUDA_ERROR
        assert address.value is not None
        assert flags.value == 0
        self.pinned[address.value] = size.value
        return 0

    def _unregister(self, address: ctypes.c_void_p) -> int:
        assert address.value is not None
        self.calls.append("cudaHostUnregister")
        assert is_mapped(address.value), "unmapped before it was made pageable"
        if self.fails:
            return CUDA_ERROR
        del self.pinned[address.value]
        return 0


class SimpleFunction:
    """A function that takes attributes."""

    restype: Any

    def __init__(self, function: Callable[[int], bytes]) -> None:
        self._function = function

    def __call__(self, code: int) -> bytes:
        return self._function(code)


def is_mapped(address: int) -> bool:
    """Whether this process has memory there."""
    ranges = (line.split(" ", 1)[0].split("-") for line in Path("/proc/self/maps").read_text("ascii").splitlines())
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


class GpuRun(NamedTuple):
    """What one run was given, and what of it was pinned."""

    input_address: int
    input_shape: list[int]
    output_address: int
    input_is_pinned: bool
    output_is_pinned: bool
    devices: tuple[str, str]  # where onnxruntime takes both to be
    thread: int


class GpuSession:
    """A session of the CPU that says it is one of a GPU; `meanwhile` is called in each run, and may raise."""

    def __init__(
        self, session: Any, library: CudaLibrary, device: int = 0, meanwhile: Callable[[], Any] = lambda: None
    ) -> None:
        self.session, self.library, self.device, self.meanwhile = session, library, device, meanwhile
        self.runs: list[GpuRun] = []
        self.get_outputs = session.get_outputs

    def get_providers(self) -> list[str]:
        """As onnxruntime's."""
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """As onnxruntime's."""
        return {"CUDAExecutionProvider": {"device_id": str(self.device)}, "CPUExecutionProvider": {}}

    def run_with_ortvaluevector(self, options: Any, names: Any, feeds: Any, outputs: Any, fetches: Any, _: Any) -> None:
        """As onnxruntime's."""
        [given], [result] = feeds, fetches
        devices = (given.device_name().lower(), result.device_name().lower())
        self.runs.append(
            GpuRun(
                given.data_ptr(),
                given.shape(),
                result.data_ptr(),
                self.library.holds(given.data_ptr(), given.tensor_size_in_bytes()),
                self.library.holds(result.data_ptr(), result.tensor_size_in_bytes()),
                devices,
                threading.get_ident(),
            )
        )
        self.meanwhile()
        self.session.run_with_ortvaluevector(options, names, feeds, outputs, fetches, _)
