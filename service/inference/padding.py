"""The few shapes that batches have on NVIDIA's providers: what runs there is filled up to the next of them.

For each shape that a session meets, cuDNN's plans are made, graphs recorded or engines built anew, which takes from
milliseconds to minutes. Of few shapes, warm-up runs them all. On other providers, batches stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.providers import NVIDIA

TOKENS_PER_GROUP = 16  # texts share a batch if their lengths fall into the same 16
T = TypeVar("T")


def is_padded(provider: str) -> bool:
    """Whether batches are filled up on that provider, by onnxruntime's name."""
    return provider in NVIDIA


def padded_sizes(max_batch: int) -> list[int]:
    """All sizes of batches: the powers of two below `max_batch`, and itself."""
    return [2**power for power in range((max_batch - 1).bit_length())] + [max_batch]


def padded_size(items: int, max_batch: int) -> int:
    """The least of `padded_sizes` that holds so many items, of at most `max_batch`."""
    return min(1 << (items - 1).bit_length(), max_batch)


def smaller_size(items: int) -> int:
    """The largest power of two below `items`, which are at least 2."""
    return 1 << ((items - 1).bit_length() - 1)


def padded_lengths(bundle: Bundle) -> list[int]:
    """All lengths of the rows of token ids: those at which a group ends."""
    ends = range(TOKENS_PER_GROUP, bundle.context_length + TOKENS_PER_GROUP, TOKENS_PER_GROUP)
    return sorted({bundle.row_length(end) for end in ends})


def length_group(bundle: Bundle, tokens: int) -> int:
    """Texts of the same group share a batch, so that a long one does not make short ones pay for its padding."""
    return (bundle.row_length(tokens) - 1) // TOKENS_PER_GROUP


def fill_up(items: Sequence[T], size: int) -> Sequence[T]:
    """`size` items: the last one again in the places that are free. Its vectors there are thrown away."""
    return [*items, *([items[-1]] * (size - len(items)))]


def fill_up_rows(ids: NDArray[np.int64], bundle: Bundle) -> NDArray[np.int64]:
    """Token ids [batch, longest] -> [batch, length of their group], padded as the tower expects it."""
    length = bundle.row_length((length_group(bundle, ids.shape[1]) + 1) * TOKENS_PER_GROUP)
    padding = bundle.manifest.config.text.pad_id
    return np.pad(ids, ((0, 0), (0, length - ids.shape[1])), constant_values=padding)
