"""Reads encoded images by their locations, and finds which of them are transparent."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from model.data.parquet import ParquetImages
from model.files import write_atomically
from model.images.preprocessing import ImageError, eight_bit, open_header
from training.data.decoded_image import is_transparent
from training.data.decoding_pool import cores_of_process, read_location
from training.data.index import SampleIndex
from training.data.sample import PARQUET_ROW, Sample, SampleLocation, SampleRecord
from training.progress import track

log = logging.getLogger(__name__)

TRANSPARENT = "transparent.npy"  # beside the index, where that is cached


class ImageReader:
    """Reads the bytes of encoded images by their locations; may be used by many threads."""

    def __init__(self) -> None:
        self._columns = ParquetImages()

    def read(self, location: SampleLocation) -> bytes:
        """Raises OSError."""
        if location.size == PARQUET_ROW:
            return self._columns.read(location.file, location.column, location.offset)
        return read_location(location)

    def sample(self, record: SampleRecord) -> Sample:
        """The sample of a record, with its image. Raises OSError."""
        return Sample(record.key, self.read(record.location), record.annotation)


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
        with ThreadPoolExecutor(cores_of_process()) as pool:
            done = track(pool.map(check, unknown), "looking for transparency", len(unknown))
            transparent[unknown] = np.fromiter(done, bool, len(unknown))
    if cached is not None:
        try:
            with write_atomically(cached, concurrent=True) as draft, draft.open("wb") as file:
                np.save(file, transparent)
        except OSError as error:
            log.warning("%s is not kept: %s", cached, error)
    return transparent
