"""Parts of images and texts that are mixed at once, so that memory is bounded however many of either there are."""

from __future__ import annotations

from collections.abc import Iterator

from model.config import MixtureConfig

MAX_NUMBERS = 2**24  # that are held at once: 64 MiB in float32


def mixture_tiles(
    mixture: MixtureConfig, dimensions: int, images: int, texts: int, most: int | None = None
) -> Iterator[tuple[slice, slice]]:
    """Slices of `images` and of `texts` that cover all pairs, in each of which `most` numbers are held at once.

    By default they are MAX_NUMBERS. Of a pair, the weights of all tokens in all heads are held, and three times as many
    that are made of them; of an image, what each of its tokens adds in each head, and the products of those.
    """
    most = MAX_NUMBERS if most is None else most
    weights = mixture.heads * mixture.tokens
    columns = min(max(1, texts), max(1, most // (4 * weights)))
    image = weights * (weights + dimensions) + 3 * mixture.tokens * dimensions
    rows = max(1, most // (image + 4 * weights * columns))
    for row in range(0, images, rows):
        for column in range(0, texts, columns):
            yield slice(row, min(row + rows, images)), slice(column, min(column + columns, texts))
