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

    `run` gives [batch, dimensions]; `probe` is an item that no model fails on.
    """

    def __init__(self, run: Run, dimensions: int, probe: Any) -> None:
        self._run, self._dimensions, self._probe = run, dimensions, probe

    def __call__(self, payloads: Sequence[Any]) -> NDArray[np.float32]:
        """[batch, dimensions]; not a number where the model failed. Raises EngineError where it always does."""
        try:
            vectors = self._run(payloads)
            if len(vectors) != len(payloads):
                raise RuntimeError(f"the engine gave {len(vectors)} vectors for {len(payloads)} items")
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            self._count_failure(error, len(payloads))
        else:
            if not np.isfinite(vectors).all():
                self._check_engine()
            return vectors
        if len(payloads) > 1:
            half = -(-len(payloads) // 2)
            return np.concatenate([self(payloads[:half]), self(payloads[half:])])
        self._check_engine()
        return np.full((1, self._dimensions), np.nan, np.float32)

    def _check_engine(self) -> None:
        """Raise EngineError where it fails on the probe, too: of a device that is lost no item is to blame.

        Their errors would be for good, as those of a part that is written.
        """
        why: object = "its numbers are not finite"
        try:
            if np.isfinite(self._run([self._probe])).all():
                return
        except Exception as error:
            why = error
        raise EngineError(f"the engine fails on whatever it is given, and so it is not the items: {why}")

    def _count_failure(self, error: Exception, items: int) -> None:
        if is_out_of_memory(error) and items > 1:
            log.warning("the device has no memory for a batch of %d items: it is cut in half", items)
        else:
            log.warning("a batch of %d items failed: %s", items, error)
