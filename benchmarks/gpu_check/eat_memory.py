"""python -m benchmarks.gpu_check.eat_memory LEAVE: holds all but LEAVE bytes of the GPU until its stdin ends."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 64 * 2**20


@contextmanager
def eaten(leave: int) -> Iterator[int]:
    """A process that holds it; gives the bytes that it got. Raises RuntimeError where it cannot."""
    command = [sys.executable, "-m", "benchmarks.gpu_check.eat_memory", str(leave)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the process that is to hold the GPU's memory did not start")
        try:
            yield int(line)
        finally:
            process.communicate()


def main() -> None:
    """Allocate through CUDA's driver interface, which needs no library but the driver's."""
    leave = int(sys.argv[1])
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _require(cuda.cuInit(0))
    _require(cuda.cuDeviceGet(ctypes.byref(device), 0))
    _require(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    _require(cuda.cuCtxSetCurrent(context))
    held = 0
    while True:
        free, total, address = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
        _require(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        size = min(CHUNK, free.value - leave)
        if size < 2**20 or cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)):
            break
        held += size
    print(held, flush=True)
    sys.stdin.read()


def _require(code: int) -> None:
    if code:
        raise SystemExit(f"CUDA says {code}, see CUresult in its reference")


if __name__ == "__main__":
    main()
