"""Batches of one part, and running them. Which items share a batch follows from the part and the batch size alone.

So a part has the same vectors whenever and wherever it is computed, as far as the engine gives the same twice.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.runtime.device_memory import is_out_of_memory
from model.runtime.engine import EngineError

log = logging.getLogger(__name__)
MODEL_FAILED = "The model failed on this item; other items are not affected."
MOST_FAILURES = 64  # one after the other, of single items: then it is not they
Run = Callable[[Sequence[Any]], NDArray[np.float32]]


class Batch(NamedTuple):
    """Payloads, and the rows of their part that they are."""

    rows: list[int]
    payloads: list[Any]


class PartBatches:
    """Collects the payloads of one part: those of one `group` share a batch, of at most `size`."""

    def __init__(self, size: int, group: Callable[[Any], int]) -> None:
        self._size, self._group = size, group
        self._waiting: defaultdict[int, Batch] = defaultdict(lambda: Batch([], []))

    def add(self, row: int, payload: Any) -> Batch | None:
        """The batch that it fills up, if it does."""
        group = self._group(payload)
        waiting = self._waiting[group]
        waiting.rows.append(row)
        waiting.payloads.append(payload)
        return self._waiting.pop(group) if len(waiting.rows) == self._size else None

    def rest(self) -> Iterator[Batch]:
        """What has not filled one."""
        for group in sorted(self._waiting):
            yield self._waiting.pop(group)


class BatchRunner:
    """Runs batches, from several threads. One poisoned item fails alone, and a batch for which memory is short is cut.

    `run` gives [batch, dimensions].
    """

    def __init__(self, run: Run, dimensions: int) -> None:
        self._run, self._dimensions = run, dimensions
        self._failures = 0  # of single items since the last that did not fail

    def __call__(self, payloads: Sequence[Any]) -> NDArray[np.float32]:
        """[batch, dimensions]; not a number where the model failed. Raises EngineError where it always does."""
        try:
            vectors = self._run(payloads)
            if len(vectors) != len(payloads):
                raise RuntimeError(f"the engine gave {len(vectors)} vectors for {len(payloads)} items")
            self._failures = 0
            return vectors
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            self._tell(error, len(payloads))
        if len(payloads) > 1:
            half = -(-len(payloads) // 2)
            return np.concatenate([self(payloads[:half]), self(payloads[half:])])
        return np.full((1, self._dimensions), np.nan, np.float32)

    def _tell(self, error: Exception, items: int) -> None:
        if is_out_of_memory(error) and items > 1:
            log.warning("the device has no memory for a batch of %d items: it is cut in half", items)
            return
        log.warning("a batch of %d items failed: %s", items, error)
        self._failures += items == 1
        if self._failures >= MOST_FAILURES:
            raise EngineError(
                f"the engine failed on {self._failures} items one after the other, and so it is not them: {error}"
            ) from error
