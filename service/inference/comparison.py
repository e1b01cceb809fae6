"""Cosines between what was embedded: the one place in which the service compares vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.inference.records import Compared
from service.thread_pool import INLINE_COSINES, ThreadPool

Matrix = NDArray[np.float32]


async def cosines(first: Compared, second: Compared, pool: ThreadPool) -> Matrix:
    """Cosines [first, second]."""
    pairs = len(first.vectors) * len(second.vectors)
    return await pool.run_inline_or_in_thread(pairs, INLINE_COSINES, _product, first.vectors, second.vectors)


def _product(first: Matrix, second: Matrix) -> Matrix:
    product: Matrix = first @ second.T
    return product
