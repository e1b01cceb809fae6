"""The stages of a job by themselves: batches that fail, reading ahead, and parts of which half is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.runtime.engine import EngineError
from service.bulk.batches import BatchRunner, PartBatches
from service.bulk.layouts import ClipRetrievalLayout, NpyLayout, Rows
from service.bulk.read_ahead import read_ahead


def test_a_poisoned_item_fails_alone() -> None:
    ran: list[int] = []

    def run(payloads: Sequence[Any]) -> NDArray[np.float32]:
        ran.append(len(payloads))
        if 3 in payloads:
            raise RuntimeError("the kernel failed")
        return np.array([[each, 1] for each in payloads], np.float32)

    vectors = BatchRunner(run, 2, probe=9)(range(8))
    assert np.isnan(vectors[3]).all()
    assert [row[0] for row in vectors if row[1] == 1] == [0, 1, 2, 4, 5, 6, 7]
    assert ran == [8, 4, 2, 2, 1, 1, 1, 4], "one more with the probe"


@pytest.mark.parametrize("broken", ["raises", "gives nothing finite"])
def test_a_device_that_is_lost_makes_no_errors_of_items(broken: str) -> None:
    """Those of its last batch would be in a part that is written before the next batch fails."""

    def run(payloads: Sequence[Any]) -> NDArray[np.float32]:
        if broken == "raises":
            raise RuntimeError("the device is lost")
        return np.full((len(payloads), 2), np.nan, np.float32)

    why = "the device is lost" if broken == "raises" else "not finite"
    with pytest.raises(EngineError, match=f"fails on whatever it is given.*{why}"):
        BatchRunner(run, 2, probe=0)([1])


def test_a_vector_that_is_not_finite_fails_alone() -> None:
    def run(payloads: Sequence[Any]) -> NDArray[np.float32]:
        return np.array([[np.nan if each == 3 else each, 1] for each in payloads], np.float32)

    assert np.isnan(BatchRunner(run, 2, probe=0)([1, 3, 2])[:, 0]).tolist() == [False, True, False]


def test_batches_follow_from_the_part_alone() -> None:
    batches = PartBatches(3, group=lambda payload: payload // 10)
    full = [batch for row, payload in enumerate([1, 11, 2, 12, 3, 13, 4]) if (batch := batches.add(row, payload))]
    assert [(batch.rows, batch.payloads) for batch in full] == [([0, 2, 4], [1, 2, 3]), ([1, 3, 5], [11, 12, 13])]
    assert [batch.rows for batch in batches.rest()] == [[6]]


def test_reading_ahead_is_bounded_and_ends_with_who_reads() -> None:
    given: list[int] = []
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            for each in range(1000):
                given.append(each)
                yield each
        finally:
            ended.set()

    source = items()
    with closing(read_ahead(source, 2)) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    for thread in threading.enumerate():
        if thread.name == "bulk-read":
            thread.join(10)
    assert len(given) <= 3 + 2 + 1, "more than is taken, is queued, and waits for the queue"
    source.close()
    assert ended.is_set()


def test_what_the_reader_raises_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    ahead = read_ahead(items(), 2)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


@pytest.mark.parametrize("layout", ["npy", "clip-retrieval"])
def test_a_part_of_which_half_is_there_is_not_done(tmp_path: Path, layout: str) -> None:
    kept = NpyLayout(tmp_path) if layout == "npy" else ClipRetrievalLayout(tmp_path, "image", 1)
    rows = Rows(["a", "b"], ["x/a", "x/b"], [None, "broken"], np.array([[1, 0], [np.nan, np.nan]], np.float32))
    kept.write(0, rows, {"model": "m", "digest": "d"}, lambda: None)
    assert kept.is_done(0)
    [last] = [file for file in tmp_path.rglob("*") if file.name.endswith(("keys.json", ".parquet"))]
    last.unlink()
    assert not kept.is_done(0)
    assert list(tmp_path.rglob("*.npy")), "that half is there"
