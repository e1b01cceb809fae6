"""The decoded images of a run: all kept in memory, once for all processes on a machine, or decoded when drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.prefetch import prefetch
from model.runtime.processor import usable_cores
from training.data.decoding_pool import (
    AHEAD,
    DecodingPool,
    DecodingTask,
    Encoded,
    Problem,
    cores_of_process,
    decode,
    images_of_task,
)
from training.data.shared_images import SharedImages, create_shared_images
from training.progress import track

CALLS = 2  # of `DiskStore.get` at the same time, so that one begins while the last images of another are decoded

Indices = npt.NDArray[np.int64]
Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]


class ImageSource(Protocol):
    """Where encoded images come from: a training set."""

    def encoded(self, item: int) -> Encoded:
        """The encoded image of an item, or where it is."""

    def report_broken(self, item: int, reason: str, detail: str) -> None:
        """Take note of an image that cannot be decoded."""


class LocalProcesses(Protocol):
    """The processes of a run that share a machine's memory, as one of them sees them."""

    @property
    def first_on_node(self) -> bool:
        """Whether this is the first of them."""

    def share_on_node(self, numbers: Sequence[int]) -> list[int]:
        """The numbers that the first of them gives; called by all processes of the run at once."""


class ImageStore(Protocol):
    """Where the decoded images of items come from."""

    def get(self, items: Indices) -> Decoded:
        """RGBA [items, side, side, 4], aspects [items], and which of them could be read [items]."""

    def close(self) -> None:
        """End what decodes; a `get` that waits for it raises CancelledError."""


class MemoryStore:
    """All images decoded; `readable` [items] are the rows of `images` that items are in."""

    def __init__(self, images: SharedImages, readable: Indices) -> None:
        self._images, self._readable = images, readable

    def get(self, items: Indices) -> Decoded:
        """As `ImageStore`."""
        rows = self._readable[items]
        return self._images.pixels[rows], self._images.aspects[rows], np.ones(len(items), bool)

    def close(self) -> None:
        """As `ImageStore`."""


class DiskStore:
    """Images that are decoded by other processes when they are asked for."""

    def __init__(self, source: ImageSource, side: int, max_pixels: int) -> None:
        self._source, self._task = source, images_of_task(side)
        processes = cores_of_process()
        self._ahead = AHEAD * processes
        slots = CALLS * (self._ahead + 1)
        self._images = create_shared_images(slots * self._task, side)
        self._pool = DecodingPool(self._images, max_pixels, processes)
        self._free: SimpleQueue[int] = SimpleQueue()
        for slot in range(slots):
            self._free.put(slot * self._task)

    def get(self, items: Indices) -> Decoded:
        """As `ImageStore`; an item that is there twice is decoded once. By CALLS threads at once.

        Raises OSError where a process that decodes died.
        """
        distinct, inverse = np.unique(items, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        ends = np.searchsorted(inverse[order], np.arange(len(distinct)), side="right")
        side = self._images.side
        pixels = np.empty((len(items), side, side, 4), np.uint8)
        aspects, present = np.ones(len(items), np.float32), np.zeros(len(items), bool)
        for first, row in self._decoded(distinct):
            last = min(first + self._task, len(distinct))
            for place in order[ends[first - 1] if first else 0 : ends[last - 1]]:
                decoded = row + inverse[place] - first
                present[place] = self._images.present[decoded]
                if present[place]:
                    pixels[place], aspects[place] = self._images.pixels[decoded], self._images.aspects[decoded]
                else:
                    pixels[place] = 0
            self._free.put(row)
        return pixels, aspects, present

    def close(self) -> None:
        """As `ImageStore`."""
        self._pool.close()

    def _decoded(self, items: Indices) -> Iterator[tuple[int, int]]:
        """For each task, the number of its first item in `items`, and the row that this was decoded into."""
        rows: deque[int] = deque()

        def tasks() -> Iterator[DecodingTask]:
            for first in range(0, len(items), self._task):
                rows.append(self._free.get())
                yield _task(self._source, rows[-1], items[first : first + self._task])

        with self._pool.running():
            done = prefetch(self._pool.executor, decode, tasks(), self._ahead)
            for first, problems in zip(range(0, len(items), self._task), done, strict=True):
                _report(self._source, items[first:], problems)
                yield first, rows.popleft()


def decode_all(
    count: int, source: ImageSource, side: int, max_pixels: int, processes: LocalProcesses | None
) -> tuple[MemoryStore, npt.NDArray[np.bool_], Indices]:
    """Decode items 0 to `count`: the store of those that could be read, which are transparent, and their numbers.

    Of several processes on a machine the first one decodes, with all cores, and the others map what it has decoded.
    Raises OSError where there is no room, or a process that decodes died.
    """
    address = 0, 0
    if processes is None or processes.first_on_node:
        images = create_shared_images(count, side)
        _decode_into(images, source, max_pixels)
        address = images.address
    if processes is not None:
        shared = processes.share_on_node(address)
        if not processes.first_on_node:
            images = SharedImages((shared[0], shared[1]), count, side)
    readable = np.flatnonzero(images.present)
    return MemoryStore(images, readable), images.transparent[readable], readable


def _decode_into(images: SharedImages, source: ImageSource, max_pixels: int) -> None:
    size = images_of_task(images.side)
    items = np.arange(images.rows)
    processes = min(usable_cores(), max(1, images.rows // size))
    pool = DecodingPool(images, max_pixels, processes)

    def decoded() -> Iterator[int]:
        tasks = (_task(source, first, items[first : first + size]) for first in range(0, images.rows, size))
        for first, problems in enumerate(prefetch(pool.executor, decode, tasks, AHEAD * processes)):
            mine = items[first * size : (first + 1) * size]
            _report(source, mine, problems)
            yield from mine

    try:
        with pool.running():
            for _ in track(decoded(), "decoding pictures", images.rows):
                pass
    finally:
        pool.close()


def _task(source: ImageSource, row: int, items: Indices) -> DecodingTask:
    return DecodingTask(row, [source.encoded(int(item)) for item in items])


def _report(source: ImageSource, items: Indices, problems: Sequence[Problem]) -> None:
    for number, reason, detail in problems:
        source.report_broken(int(items[number]), reason, detail)
