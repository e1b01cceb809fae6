"""The pictures of a run, each squeezed to one square and kept with its shape: all in memory, or read when drawn.

One square for all lets a whole batch be cropped, turned and coloured at once; the crop undoes the squeeze.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.images.geometry import turn
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation
from training.progress import track

Numbers = npt.NDArray[np.int64]


class Squeezed:
    """RGBA pixels [side, side, 4] uint8, width / height before they were squeezed, whether any shows what is behind."""

    __slots__ = ("aspect", "pixels", "transparent")

    def __init__(self, data: bytes, side: int, max_pixels: int) -> None:
        """Decode an image file. Raises ImageError."""
        opened = open_header(data, max_pixels, draft_size=side)
        opened.load()
        image, box = opened.take(), opened.box
        try:
            image, box = turn(image, box, orientation(image))
            image = eight_bit(image)
            self.transparent = is_transparent(image)
            left, top, right, bottom = box or (0, 0, *image.size)
            self.aspect = (right - left) / (bottom - top)
            # Pillow resizes RGBA with premultiplied alpha, so transparent pixels lend no colour to their neighbours.
            rgba = image.convert("RGBA").resize((side, side), Image.Resampling.BICUBIC, box=box)
        except Exception as error:  # broken palettes come to light only here, by several exceptions
            raise ImageError("invalid_image", f"its colours (mode {image.mode}) cannot be read") from error
        self.pixels = np.asarray(rgba)


def is_transparent(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    if not image.has_transparency_data:
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def decoding_threads() -> int:
    """As many as there are cores for each of the processes that torchrun started on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class Store(Protocol):
    """Where the pictures of items come from."""

    def take(self, items: Numbers) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """RGBA pictures [items, side, side, 4], their aspects [items], and which of them could be read [items]."""


class InMemory:
    """All pictures decoded."""

    def __init__(self, pixels: npt.NDArray[np.uint8], aspects: npt.NDArray[np.float32]) -> None:
        self._pixels, self._aspects = pixels, aspects

    def take(self, items: Numbers) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """As `Store`."""
        return self._pixels[items], self._aspects[items], np.ones(len(items), bool)


class OnDisk:
    """Pictures that are decoded by threads when they are asked for."""

    def __init__(self, read: Callable[[int], Squeezed | None], side: int) -> None:
        """`read` gives the picture of an item, None if it is broken."""
        self._read, self._side = read, side
        self._pool = ThreadPoolExecutor(decoding_threads(), "pictures")

    def take(self, items: Numbers) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """As `Store`."""
        pixels = np.zeros((len(items), self._side, self._side, 4), np.uint8)
        aspects, present = np.ones(len(items), np.float32), np.zeros(len(items), bool)
        distinct, places = np.unique(items, return_inverse=True)
        for number, squeezed in enumerate(self._pool.map(self._read, map(int, distinct))):
            if squeezed is not None:
                rows = places == number
                pixels[rows], aspects[rows], present[rows] = squeezed.pixels, squeezed.aspect, True
        return pixels, aspects, present


def load_all(
    count: int, read: Callable[[int], Squeezed | None], side: int
) -> tuple[InMemory, npt.NDArray[np.bool_], Numbers]:
    """Decode items 0 to `count`: the store of those that could be read, which are transparent, and their numbers."""
    pixels = np.empty((count, side, side, 4), np.uint8)
    aspects, transparent = np.ones(count, np.float32), np.zeros(count, bool)

    def one(item: int) -> bool:
        squeezed = read(item)
        if squeezed is not None:
            pixels[item], aspects[item], transparent[item] = squeezed.pixels, squeezed.aspect, squeezed.transparent
        return squeezed is not None

    with ThreadPoolExecutor(decoding_threads()) as pool:
        done = np.fromiter(track(pool.map(one, range(count)), "decoding pictures", count), bool, count)
    readable = np.flatnonzero(done)
    if len(readable) < count:
        for place, item in enumerate(readable):  # in place: there may be no room for a copy
            pixels[place] = pixels[item]
        pixels, aspects, transparent = pixels[: len(readable)], aspects[readable], transparent[readable]
    return InMemory(pixels, aspects), transparent, readable
