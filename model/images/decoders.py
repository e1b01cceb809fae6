"""What stands behind the header of an image file: Pillow, or what is faster and takes only some files.

The header is read by `open_header` whoever decodes: formats, limits of pixels and of memory, and what is wrong with a
file are told in one place, before anything is decoded. A decoder gives what it does not take to Pillow, file by file.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.config import Preprocessing
from model.images.decoder_names import DecoderName
from model.images.preprocessing import Opened, preprocess


class ImageDecoder(Protocol):
    """From a file whose header has been read to the square of the image tower. Called by many threads at once."""

    def load(self, opened: Opened) -> None:
        """Decode. Raises ImageError, of this file alone."""

    def preprocess(self, opened: Opened, config: Preprocessing) -> npt.NDArray[np.uint8]:
        """Orient, flatten, resize and crop what was loaded: uint8 [size, size, 3]. Raises ImageError."""


class PillowDecoder:
    """Every format; what is not decoded at less than its size has the pixels of the reference, bit for bit."""

    def load(self, opened: Opened) -> None:
        """As ImageDecoder."""
        opened.load()

    def preprocess(self, opened: Opened, config: Preprocessing) -> npt.NDArray[np.uint8]:
        """As ImageDecoder."""
        return preprocess(opened.take(), config, opened.box)


class SimdDecoder(PillowDecoder):
    """Pillow decodes, and what is RGB then is resized by vector instructions: see `simd_resize`.

    A model whose pixels must be the reference's has Pillow's. Raises ModuleNotFoundError without the extra `simd`.
    """

    def __init__(self) -> None:
        from model.images.simd_resize import resize

        self._resize = resize

    def preprocess(self, opened: Opened, config: Preprocessing) -> npt.NDArray[np.uint8]:
        """As ImageDecoder."""
        if config.draft_size is None:
            return super().preprocess(opened, config)
        return preprocess(opened.take(), config, opened.box, self._resize)


def image_decoder(name: DecoderName) -> ImageDecoder:
    """The decoder of that name. Raises ModuleNotFoundError where its extra is not installed."""
    return SimdDecoder() if name == "simd" else PillowDecoder()
