"""Which samples are held out: a share of each label, always the same ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def draw_per_label(labels: Numbers, hashes: Numbers, share: float) -> npt.NDArray[np.bool_]:
    """Which of the samples [count] are drawn: `share` of all, and of each label that share up to one sample.

    Within a label those of the smallest hash; what rounding leaves of one label goes to the next, so that many small
    labels have their share together. The last sample of a label is never drawn: nothing would be left to learn it from.
    `labels` are numbers, -1 for samples without one.
    """
    drawn = np.zeros(len(labels), bool)
    left_over = 0.5
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        wanted = share * len(mine) + left_over
        count = min(int(wanted), len(mine) - 1, int(np.ceil(share * len(mine))))
        left_over = min(wanted - count, 1.0)
        drawn[mine[np.argsort(hashes[mine], kind="stable")[:count]]] = True
    return drawn
