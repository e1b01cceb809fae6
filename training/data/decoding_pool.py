"""Processes that read and decode images into memory which they share with the one that started them.

Threads would do for a few cores: Pillow decodes and resizes without Python's lock. But parsing headers takes about a
twentieth of the time with the lock, which the training loop wants as well. Processes are started by a fork server,
never forked off one that has threads and holds a GPU, and none of them imports torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from model.data.files import MAX_IMAGE_BYTES, read_bounded
from model.data.skipped_samples import skip_reason
from model.images.preprocessing import ImageError
from model.runtime.processor import usable_cores
from training.data.decoded_image import DecodedImage
from training.data.sample import WHOLE_FILE, SampleLocation
from training.data.shared_images import SharedImages

TASK_BYTES, TASK_IMAGES = 2**20, 16  # of a task, at most: a task costs as much as a tenth of an image
AHEAD = 2  # tasks that wait for each process

Encoded = SampleLocation | bytes | OSError  # an encoded image, where it is, or why it could not be read
Problem = tuple[int, str, str]  # which of the images of a task could not be decoded, reason and detail


def read_location(location: SampleLocation) -> bytes:
    """The bytes of an encoded image that is a file or a piece of one. Raises OSError."""
    if location.size == WHOLE_FILE:
        return read_bounded(location.file, MAX_IMAGE_BYTES)
    if location.size > MAX_IMAGE_BYTES:
        raise OSError(f"{location.file} holds {location.size:,} bytes for one picture")
    handle = os.open(location.file, os.O_RDONLY)
    try:
        return os.pread(handle, location.size, location.offset)
    finally:
        os.close(handle)


def cores_of_process() -> int:
    """Cores that this process may use, of those that it shares with others that torchrun started on this machine."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def images_of_task(side: int) -> int:
    """How many images a process decodes in one go."""
    return max(1, min(TASK_IMAGES, TASK_BYTES // (4 * side * side)))


@dataclass(frozen=True)
class DecodingTask:
    """Images that are decoded into the rows from `first` on."""

    first: int
    encoded: Sequence[Encoded]


class DecodingPool:
    """Processes that decode into the rows of `images`; `executor` runs `decode` in them."""

    def __init__(self, images: SharedImages, max_pixels: int, processes: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.processes = processes
        self.executor = ProcessPoolExecutor(
            processes, context, _start, (images.address, images.rows, images.side, max_pixels)
        )
        self._started: set[BaseProcess] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it the executor may be used. Raises OSError with its cause where one of the processes died."""
        try:
            yield
        except BrokenProcessPool as error:
            self.close()
            raise OSError(
                f"a process that decodes pictures {self._cause()}. Give the same command again: the run goes on from "
                "its last checkpoint"
            ) from error
        self._started.update(multiprocessing.active_children())  # of which, once they are dead, nobody else knows why

    def close(self) -> None:
        """End the processes; what was submitted and not begun is cancelled."""
        self.executor.shutdown(cancel_futures=True)

    def _cause(self) -> str:
        codes = [process.exitcode for process in self._started]
        code = next((code for code in codes if code not in (None, 0, -signal.SIGTERM)), None)
        if code is None or code >= 0:
            return "ended" if code is None else f"ended with status {code}"
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (
            ", mostly by the system for want of memory" if code == -signal.SIGKILL else ", by a picture or a library"
        )


ENDING_S = 5.0
_images: SharedImages
_max_pixels: int


def _start(address: tuple[int, int], rows: int, side: int, max_pixels: int) -> None:
    """Begin one of the processes."""
    global _images, _max_pixels
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started it decides
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        _images, _max_pixels = SharedImages(address, rows, side, "r+"), max_pixels
    except OSError:
        parent.join(ENDING_S)  # its descriptors are gone a moment before it is
        if not parent.is_alive():  # ended before this one had begun
            os._exit(1)
        raise


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def decode(task: DecodingTask) -> list[Problem]:
    """Read and decode the images of a task into their rows, and return what is wrong with some."""
    problems: list[Problem] = []
    for number, encoded in enumerate(task.encoded):
        row = task.first + number
        _images.present[row] = False
        try:
            decoded = DecodedImage(_read(encoded), _images.side, _max_pixels)
        except (ImageError, OSError) as error:
            problems.append((number, *skip_reason(error)))
            continue
        _images.pixels[row], _images.aspects[row] = decoded.pixels, decoded.aspect
        _images.transparent[row], _images.present[row] = decoded.transparent, True
    return problems


def _read(encoded: Encoded) -> bytes:
    if isinstance(encoded, OSError):
        raise encoded
    return encoded if isinstance(encoded, bytes) else read_location(encoded)
