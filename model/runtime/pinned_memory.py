"""Pinned (page-locked) host memory for batches: a GPU copies from it and to it itself, while the thread goes on.

CUDA knows such memory by its address: to onnxruntime it is memory of the host like any other. What is pageable is
copied in two steps, and the thread that is to start the kernels waits for the first.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

log = logging.getLogger(__name__)
FREE_BUFFERS = 2  # kept for the next runs: as many as a tower runs at once
KEPT_BYTES = 2**28  # of a buffer; batches of a service are a fraction of it, whole data sets are not


class PinnedMemory:
    """Buffers that are used again and again, each by one run at a time: to pin memory takes longer than to copy to it.

    A buffer is as large as the largest array it was borrowed for, up to the next power of two; only `FREE_BUFFERS` are
    kept, of at most `KEPT_BYTES`. What cannot be pinned is used as it is.
    """

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._lock = threading.Lock()
        self._free: list[npt.NDArray[np.uint8]] = []
        self._borrowed: list[npt.NDArray[np.uint8]] = []

    def holds(self, array: npt.NDArray[Any]) -> bool:
        """Whether the array is borrowed from here, or a part of one that is."""
        return any(array.base is buffer for buffer in self._borrowed)

    @contextmanager
    def borrow(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
        """An array of any content, to be used within the context: afterwards, its memory is that of another run."""
        size = prod(shape) * np.dtype(dtype).itemsize
        buffer = self._take(size)
        try:
            yield buffer[:size].view(dtype).reshape(shape)
        finally:
            with self._lock:
                self._borrowed = [other for other in self._borrowed if other is not buffer]
                if buffer.size <= KEPT_BYTES:
                    self._free = [*self._free, buffer][-FREE_BUFFERS:]

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        with self._lock:
            buffer = self._free.pop() if self._free else None
        if buffer is None or buffer.size < size:
            buffer = self._new(size)
        with self._lock:
            self._borrowed = [*self._borrowed, buffer]
        return buffer

    def _new(self, size: int) -> npt.NDArray[np.uint8]:
        pages = mmap.mmap(-1, max(mmap.PAGESIZE, 1 << (size - 1).bit_length()))
        buffer = np.frombuffer(pages, np.uint8)
        address = buffer.ctypes.data
        if self._cuda.pin(address, buffer.size):
            # Called when no view of it is left, before its pages are unmapped.
            weakref.finalize(buffer, self._cuda.unpin, address, pages).atexit = False
        return buffer


class CudaRuntime:
    """What pins memory: CUDA's runtime library. onnxruntime has loaded it, and offers no function of its own for it."""

    def __init__(self, device: int) -> None:
        """`device` is the number of the GPU."""
        self._device = device
        self._told = False
        self._still_pinned: list[mmap.mmap] = []

    def pin(self, address: int, size: int) -> bool:
        """Pin so many bytes. False where that fails; the log says why, once."""
        try:
            # Else CUDA would take hundreds of megabytes of the first GPU, whichever the session is on.
            self._call("cudaSetDevice", ctypes.c_int(self._device))
            self._call("cudaHostRegister", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(0))
        except OSError as error:
            if not self._told:
                log.warning("no memory is pinned, so that batches are copied to the GPU more slowly: %s", error)
            self._told = True
            return False
        return True

    def unpin(self, address: int, pages: mmap.mmap) -> None:
        """Make what was pinned there, in `pages`, pageable again."""
        try:
            self._call("cudaHostUnregister", ctypes.c_void_p(address))
        except OSError as error:
            # Unmapped all the same, its address would be given away again, and copies would go to pages of nobody.
            self._still_pinned.append(pages)
            log.warning("memory that is not needed any more stays pinned: %s", error)

    def _call(self, name: str, *arguments: Any) -> None:
        library = _library()
        if code := getattr(library, name)(*arguments):
            library.cudaGetLastError()  # the thread would keep it, for onnxruntime to find after its next kernel
            library.cudaGetErrorString.restype = ctypes.c_char_p
            raise OSError(f"{name}: {library.cudaGetErrorString(code).decode()} (CUDA error {code})")


cuda_runtime = cache(CudaRuntime)  # one for each GPU


def _library() -> Any:
    """By the version that this onnxruntime was built for. Raises OSError when there is none."""
    return ctypes.CDLL(f"libcudart.so.{ort.cuda_version.split('.')[0]}")
