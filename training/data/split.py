"""Splits the samples of all sources: excluded, held out to choose the checkpoint, or trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from model.data.files import MAX_LIST_BYTES, read_bounded
from model.suggestions import did_you_mean_path
from training.config import ConfigError
from training.data.index import SampleIndex

log = logging.getLogger(__name__)

KEYS = TypeAdapter(list[str])
MAX_HOLDOUT = 5_000  # of a source: a standard error of 0.7 points at most; they stay in memory

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def load_excluded(file: Path | None) -> frozenset[str]:
    """Read a JSON list of keys that a run leaves out, each SHARD.tar/KEY. Raises ConfigError."""
    if file is None:
        return frozenset()
    try:
        return frozenset(KEYS.validate_json(read_bounded(file, MAX_LIST_BYTES)))
    except FileNotFoundError:
        raise ConfigError(f"data.exclude: {file} is not there{did_you_mean_path(file)}") from None
    except (OSError, ValidationError) as error:
        raise ConfigError(f'{file} is not a list of keys, ["SHARD.tar/KEY", ...]: {error}') from error


def mark_included(indexes: Sequence[SampleIndex], excluded: frozenset[str]) -> Mask:
    """Which samples of all indexes [samples] are not excluded; keys that no source has are warned of."""
    if not excluded:  # keys lie in the text of a sample: to read all takes seconds a million
        return np.ones(sum(len(index) for index in indexes), bool)
    keys = [index.record(number).key for index in indexes for number in range(len(index))]
    if missing := sorted(excluded.difference(keys)):
        message = "data.exclude: %d of %d keys are in no source, such as %s"
        log.warning(message, len(missing), len(excluded), missing[0])
    return np.array([key not in excluded for key in keys])


def mark_held_out(indexes: Sequence[SampleIndex], included: Mask, share: float) -> Mask:
    """Which samples of all indexes are held out: a share of each label of each source, MAX_HOLDOUT of it at most."""
    parts, first = [], 0
    for index in indexes:
        mine = included[first : first + len(index)]
        first += len(index)
        labels, hashes = (index.samples[name][mine].astype(np.int64) for name in ("label", "bucket"))
        drawn = np.zeros(len(index), bool)
        drawn[mine] = draw_per_label(labels, hashes, min(share, MAX_HOLDOUT / max(1, len(labels))))
        parts.append(drawn)
    return np.concatenate(parts)


def draw_per_label(labels: Indices, hashes: Indices, share: float) -> Mask:
    """Which of the samples [count] are drawn: `share` of all, and of each label that share up to one sample.

    Within a label those of the smallest hash; what rounding leaves of one label goes to the next, so that many small
    labels have their share together. The last sample of a label is never drawn: nothing would be left to learn it from.
    `labels` are numbers, -1 for samples without one.
    """
    drawn = np.zeros(len(labels), bool)
    left_over = 0.5
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        expected = share * len(mine) + left_over
        count = min(int(expected), len(mine) - 1, int(np.ceil(share * len(mine))))
        left_over = min(expected - count, 1.0)
        drawn[mine[np.argsort(hashes[mine], kind="stable")[:count]]] = True
    return drawn
