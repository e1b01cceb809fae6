"""Which pictures of an index are transparent: it decides how they are spoken of, before they are drawn."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.images.preprocessing import ImageError, eight_bit, open_header
from training.data.index import Index
from training.data.pictures import decoding_threads, is_transparent
from training.data.sources import PictureReader
from training.progress import track

log = logging.getLogger(__name__)

KEPT = "transparent.npy"  # beside the index, where that is kept


def transparent_samples(index: Index, reader: PictureReader, max_pixels: int) -> npt.NDArray[np.bool_]:
    """[samples] of `index`; only pictures with an alpha channel are decoded, and none that is called JPEG."""
    kept = index.folder / KEPT if index.folder else None
    if kept is not None and kept.exists():
        found: npt.NDArray[np.bool_] = np.load(kept)
        return found
    unknown = np.flatnonzero(index.samples["opaque"] == 0)
    transparent = np.zeros(len(index), bool)

    def one(number: int) -> bool:
        try:
            image = open_header(reader.read(index.entry(number).place), max_pixels).take()
            return image.has_transparency_data and is_transparent(eight_bit(image))
        except (ImageError, OSError, ValueError, SyntaxError):  # counted when it is drawn
            return False

    if len(unknown):
        with ThreadPoolExecutor(decoding_threads()) as pool:
            done = track(pool.map(one, unknown), "looking for transparency", len(unknown))
            transparent[unknown] = np.fromiter(done, bool, len(unknown))
    if kept is not None:
        _keep(transparent, kept)
    return transparent


def _keep(transparent: npt.NDArray[np.bool_], file: Path) -> None:
    draft = file.with_name(f"{os.getpid()}-{KEPT}")
    try:
        np.save(draft, transparent)
        draft.replace(file)
    except OSError as error:
        log.warning("%s is not kept: %s", file, error)
