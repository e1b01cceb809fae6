"""All pictures of a run in memory, each squeezed to one square and kept with its shape, decoded once."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from model.preprocessing import ImageError, decode
from training.data.shards import Sample
from training.progress import track

log = logging.getLogger(__name__)


class PictureStore:
    """RGBA pictures [count, side, side, 4] uint8, and width / height of each before it was squeezed.

    One square for all lets a whole batch be cropped, turned and coloured at once; the crop undoes the squeeze.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], aspects: npt.NDArray[np.float32]) -> None:
        self.pixels = pixels
        self.aspects = aspects

    @classmethod
    def decode(cls, samples: Sequence[Sample], side: int) -> tuple[PictureStore, list[int]]:
        """Decode `samples`; returns the store and the indices of those that could be read."""
        pixels = np.empty((len(samples), side, side, 4), np.uint8)
        aspects = np.ones(len(samples), np.float32)

        def one(index: int) -> bool:
            return _decode_into(samples[index].picture, pixels[index], aspects, index)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = list(track(pool.map(one, range(len(samples))), "decoding pictures", len(samples)))
        readable = [index for index, good in enumerate(done) if good]
        if len(readable) < len(samples):
            log.warning("skipped %d pictures that cannot be decoded", len(samples) - len(readable))
            pixels, aspects = pixels[readable], aspects[readable]
        return cls(pixels, aspects), readable


def _decode_into(data: bytes, row: npt.NDArray[np.uint8], aspects: npt.NDArray[np.float32], index: int) -> bool:
    try:
        rgba = ImageOps.exif_transpose(decode(data)).convert("RGBA")
    except (ImageError, OSError, ValueError, SyntaxError):  # the last three from broken EXIF and palettes
        return False
    aspects[index] = rgba.width / rgba.height
    side = row.shape[0]
    # Pillow resizes RGBA with premultiplied alpha, so transparent pixels lend no colour to their neighbours.
    row[:] = np.asarray(rgba.resize((side, side), Image.Resampling.BICUBIC))
    return True
