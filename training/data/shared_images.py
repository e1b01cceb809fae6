"""Decoded images in memory that several processes map.

The memory has no name: nothing is left of it when the processes end, however they do. And it is no file in /dev/shm,
which a container bounds to 64 MiB unless it is told otherwise.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

IMAGE_BYTES = 6  # of an image beside its pixels: of the aspect and two truth values
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class SharedImages:
    """Rows of decoded images: what `DecodedImage` holds of each, and whether it could be read.

    `pixels` [rows, side, side, 4] uint8; `aspects` [rows] float32; `transparent` and `present` [rows] bool.
    """

    def __init__(self, address: tuple[int, int], rows: int, side: int, mode: Literal["r", "r+"] = "r") -> None:
        """Map what `create_shared_images` made: `address` is the number of the process that did, and its descriptor.

        Raises OSError where that process has ended, or is another user's.
        """
        self.address, self.rows, self.side = address, rows, side
        path, square = "/proc/{}/fd/{}".format(*address), side * side * 4

        def part(first: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
            return np.asarray(np.memmap(path, dtype, mode, rows * first, shape))

        self.pixels: npt.NDArray[np.uint8] = part(0, (rows, side, side, 4), np.uint8)  # type: ignore[assignment]
        self.aspects: npt.NDArray[np.float32] = part(square, (rows,), np.float32)  # type: ignore[assignment]
        self.transparent: npt.NDArray[np.bool_] = part(square + 4, (rows,), bool)  # type: ignore[assignment]
        self.present: npt.NDArray[np.bool_] = part(square + 5, (rows,), bool)  # type: ignore[assignment]


def create_shared_images(rows: int, side: int) -> SharedImages:
    """Rows of zeros, that other processes of the same user can map while the result lives.

    Raises OSError where there is no room for them.
    """
    size = rows * (4 * side * side + IMAGE_BYTES)
    check_room(size, rows, available_bytes())
    handle = os.memfd_create("decoded-images")
    os.ftruncate(handle, size)
    images = SharedImages((os.getpid(), handle), rows, side, "r+")
    weakref.finalize(images, os.close, handle)
    return images


def check_room(size: int, rows: int, available: int) -> None:
    """Raise OSError where `size` bytes for so many images are more than what is available."""
    if size > available:
        raise OSError(
            f"{rows:,} decoded pictures take {size / 2**30:.1f} GiB of memory, of which {available / 2**30:.1f} are "
            "free: set data.pictures to disk, or lower data.store_pixels"
        )


def available_bytes() -> int:
    """Memory that can be had on this machine, by this container at most."""
    found = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    free = int(found["MemAvailable"].split()[0]) * 1024
    try:
        return min(free, int(CONTAINER_LIMIT.read_text("ascii")))
    except (OSError, ValueError):  # there is none, or it is called "max"
        return free
