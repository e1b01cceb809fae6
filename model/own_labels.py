"""The labels that a model brings along: the categories of one that knows nothing else.

They are chosen among under the name `categories`, without being sent, tokenized or embedded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer

LABEL_SET: Final = "categories"
ROWS_AT_ONCE = 1024

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OwnLabels:
    """What is shown for each category, all different, and their vectors [categories, dimensions], of unit length."""

    labels: Sequence[str]
    vectors: Vectors = field(repr=False)


def own_labels(
    tokenizer: TextTokenizer, run: Callable[[Rows], Vectors], rows_at_once: int = ROWS_AT_ONCE
) -> OwnLabels | None:
    """Those of the model, whose text tower is `run`, rows of ids [batch, 1] at a time; None where it reads any text."""
    if not isinstance(tokenizer, CategoryTokenizer):
        return None
    ids = np.arange(1, tokenizer.vocab_size, dtype=np.int64)[:, np.newaxis]
    parts = [run(ids[start : start + rows_at_once]) for start in range(0, len(ids), rows_at_once)]
    return OwnLabels(tokenizer.labels, np.concatenate(parts))
