"""Reads and decodes the images of a run, each squeezed to one square: all kept in memory, or decoded when drawn.

One square for all lets a whole batch be cropped, turned and coloured at once; the crop undoes the squeeze.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.files import write_atomically
from model.images.geometry import apply_orientation
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation
from training.data.files import MAX_IMAGE_BYTES, read_bounded
from training.data.index import SampleIndex
from training.data.parquet import ParquetImages
from training.data.sample import PARQUET_ROW, WHOLE_FILE, Sample, SampleLocation, SampleRecord
from training.progress import track

log = logging.getLogger(__name__)

TRANSPARENT = "transparent.npy"  # beside the index, where that is cached

Indices = npt.NDArray[np.int64]
Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]


class ImageReader:
    """Reads the bytes of encoded images by their locations; may be used by many threads."""

    def __init__(self) -> None:
        self._columns = ParquetImages()

    def read(self, location: SampleLocation) -> bytes:
        """Raises OSError."""
        if location.size == WHOLE_FILE:
            return read_bounded(location.file, MAX_IMAGE_BYTES)
        if location.size == PARQUET_ROW:
            return self._columns.read(location.file, location.column, location.offset)
        if location.size > MAX_IMAGE_BYTES:
            raise OSError(f"{location.file} holds {location.size:,} bytes for one picture")
        handle = os.open(location.file, os.O_RDONLY)
        try:
            return os.pread(handle, location.size, location.offset)
        finally:
            os.close(handle)

    def sample(self, record: SampleRecord) -> Sample:
        """The sample of a record, with its image. Raises OSError."""
        return Sample(record.key, self.read(record.location), record.annotation)


class DecodedImage:
    """RGBA pixels [side, side, 4] uint8, width / height before they were squeezed, whether any is not opaque."""

    __slots__ = ("aspect", "pixels", "transparent")

    def __init__(self, data: bytes, side: int, max_pixels: int) -> None:
        """Decode an image file. Raises ImageError."""
        opened = open_header(data, max_pixels, draft_size=side)
        opened.load()
        image, box = opened.take(), opened.box
        try:
            image, box = apply_orientation(image, box, orientation(image))
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


class ImageStore(Protocol):
    """Where the decoded images of items come from."""

    def get(self, items: Indices) -> Decoded:
        """RGBA [items, side, side, 4], aspects [items], and which of them could be read [items]."""


class MemoryStore:
    """All images decoded."""

    def __init__(self, pixels: npt.NDArray[np.uint8], aspects: npt.NDArray[np.float32]) -> None:
        self._pixels, self._aspects = pixels, aspects

    def get(self, items: Indices) -> Decoded:
        """As `ImageStore`."""
        return self._pixels[items], self._aspects[items], np.ones(len(items), bool)


class DiskStore:
    """Images that are decoded by threads when they are asked for."""

    def __init__(self, decode: Callable[[int], DecodedImage | None], side: int) -> None:
        """`decode` gives the image of an item, None if it is broken."""
        self._decode, self._side = decode, side
        self._pool = ThreadPoolExecutor(decoding_threads(), "images")

    def get(self, items: Indices) -> Decoded:
        """As `ImageStore`; an item that is there twice is decoded once."""
        pixels = np.zeros((len(items), self._side, self._side, 4), np.uint8)
        aspects, present = np.ones(len(items), np.float32), np.zeros(len(items), bool)
        distinct, inverse = np.unique(items, return_inverse=True)
        for number, decoded in enumerate(self._pool.map(self._decode, map(int, distinct))):
            if decoded is not None:
                rows = inverse == number
                pixels[rows], aspects[rows], present[rows] = decoded.pixels, decoded.aspect, True
        return pixels, aspects, present


def decode_all(
    count: int, decode: Callable[[int], DecodedImage | None], side: int
) -> tuple[MemoryStore, npt.NDArray[np.bool_], Indices]:
    """Decode items 0 to `count`: the store of those that could be read, which are transparent, and their numbers."""
    pixels = np.empty((count, side, side, 4), np.uint8)
    aspects, transparent = np.ones(count, np.float32), np.zeros(count, bool)

    def decode_into(item: int) -> bool:
        decoded = decode(item)
        if decoded is not None:
            pixels[item], aspects[item], transparent[item] = decoded.pixels, decoded.aspect, decoded.transparent
        return decoded is not None

    with ThreadPoolExecutor(decoding_threads()) as pool:
        done = np.fromiter(track(pool.map(decode_into, range(count)), "decoding pictures", count), bool, count)
    readable = np.flatnonzero(done)
    if len(readable) < count:
        for row, item in enumerate(readable):  # in place: there may be no room for a copy
            pixels[row] = pixels[item]
        pixels, aspects, transparent = pixels[: len(readable)], aspects[readable], transparent[readable]
    return MemoryStore(pixels, aspects), transparent, readable


def find_transparent(index: SampleIndex, reader: ImageReader, max_pixels: int) -> npt.NDArray[np.bool_]:
    """Which images of `index` are transparent [samples], which decides the templates of their captions.

    Only images with an alpha channel are decoded, and none that is called JPEG; kept beside the index, if that is.
    """
    cached = index.folder / TRANSPARENT if index.folder else None
    if cached is not None and cached.exists():
        found: npt.NDArray[np.bool_] = np.load(cached)
        return found
    unknown = np.flatnonzero(index.samples["opaque"] == 0)
    transparent = np.zeros(len(index), bool)

    def check(number: int) -> bool:
        try:
            image = open_header(reader.read(index.record(number).location), max_pixels).take()
            return image.has_transparency_data and is_transparent(eight_bit(image))
        except (ImageError, OSError, ValueError, SyntaxError):  # counted when it is drawn
            return False

    if len(unknown):
        with ThreadPoolExecutor(decoding_threads()) as pool:
            done = track(pool.map(check, unknown), "looking for transparency", len(unknown))
            transparent[unknown] = np.fromiter(done, bool, len(unknown))
    if cached is not None:
        try:
            with write_atomically(cached, concurrent=True) as draft, draft.open("wb") as file:
                np.save(file, transparent)
        except OSError as error:
            log.warning("%s is not kept: %s", cached, error)
    return transparent
