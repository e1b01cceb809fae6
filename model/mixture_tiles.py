"""Parts of images and texts that are mixed at once, so that memory is bounded however many of either there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt

from model.config import MixtureConfig

Vectors = npt.NDArray[np.float32]

MAX_NUMBERS = 2**24  # that are held at once: 64 MiB in float32


def mixture_tiles(
    mixture: MixtureConfig, dimensions: int, images: int, texts: int, most: int | None = None
) -> tuple[list[slice], list[slice]]:
    """Slices of `images` and slices of `texts`: of one of each, `most` numbers are held at once.

    By default they are MAX_NUMBERS. Of a pair, the weights of all tokens in all heads are held, and three times as many
    that are made of them; of an image, what each of its tokens adds in each head, and the products of those.
    """
    most = MAX_NUMBERS if most is None else most
    weights = mixture.heads * mixture.tokens
    columns = min(max(1, texts), max(1, most // (4 * weights)))
    image = weights * (weights + dimensions) + 3 * mixture.tokens * dimensions
    rows = max(1, most // (image + 4 * weights * columns))
    return _slices(images, rows), _slices(texts, columns)


def mix_in_tiles(
    mix: Callable[[Vectors, Vectors], Vectors], mixture: MixtureConfig, images: Vectors, texts: Vectors
) -> Vectors:
    """Vectors of images [images, tokens, dimensions] and of texts [texts, dimensions] -> cosines [images, texts].

    `mix` gives them of the images and the texts of a tile.
    """
    cosines = np.empty((len(images), len(texts)), np.float32)
    for rows, columns in product(*mixture_tiles(mixture, texts.shape[1], len(images), len(texts))):
        cosines[rows, columns] = mix(images[rows], texts[columns])
    return cosines


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
