"""Batches on their way to a GPU and back: in pinned memory, which runs take in turns and nobody keeps.

No GPU is here: the library that pins and the session that says it is on one are those of `cuda_library`. What is shown
is who is given which memory and when, not that a copy is faster.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle, bundled
from model.runtime import pinned_memory
from model.runtime.engine import Engine
from model.runtime.pinned_memory import FREE_BUFFERS, CudaRuntime, PinnedMemory, cuda_runtime
from model.runtime.session import TowerSession
from service.inference.batcher import Batcher
from service.request_context import Timing
from tests.model.cuda_library import CudaLibrary, GpuSession, is_mapped

POISON = 0xFF


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Bundle.load(bundled()), "cpu", 1)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaLibrary]:
    library = CudaLibrary()
    monkeypatch.setattr(pinned_memory, "_library", library.load)
    cuda_runtime.cache_clear()
    yield library
    gc.collect()
    cuda_runtime.cache_clear()


def image_tower(engine: Engine, library: CudaLibrary, **options: Any) -> tuple[TowerSession, GpuSession]:
    session = GpuSession(engine.image_session.session, library, **options)
    return TowerSession(session, "pixels", 1), session


def embed(tower: TowerSession, rows: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
    with tower.stacked(rows) as batch:
        return tower.run(batch)


def test_a_batch_is_read_from_pinned_memory_and_its_vectors_are_written_there(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, session = image_tower(engine, library, device=1)
    for rows in (list(pixels), pixels, list(pixels[:, ::-1])):
        got = embed(tower, rows)
        np.testing.assert_array_equal(got, engine.embed_images(np.stack(list(rows))))
        run = session.runs[-1]
        assert run.input_shape == [8, 96, 96, 3]
        assert run.input_is_pinned
        assert run.output_is_pinned
        assert run.devices == ("cpu", "cpu")
    assert library.devices == {threading.get_ident(): 1}
    assert len(library.pinned) == 2  # one buffer for inputs, and one for vectors, for all of them


def test_what_is_not_in_pinned_memory_is_copied_there_and_what_is_there_is_not(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, session = image_tower(engine, library)
    for given in (pixels, pixels[::2], pixels[:, :, ::-1], pixels[:0]):
        np.testing.assert_array_equal(tower.run(given), engine.embed_images(given))
    assert all(run.input_is_pinned and run.output_is_pinned for run in session.runs[:3])  # the last has no bytes
    with tower.stacked(list(pixels)) as batch:
        np.testing.assert_array_equal(tower.run(batch), engine.embed_images(pixels))
        np.testing.assert_array_equal(tower.run(batch[:5]), engine.embed_images(pixels[:5]))
        assert {run.input_address for run in session.runs[-2:]} == {batch.ctypes.data}


def test_a_buffer_for_a_whole_data_set_is_not_kept(library: CudaLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_memory, "KEPT_BYTES", 2**14)
    memory = PinnedMemory(CudaRuntime(0))
    for size, kept in ((2**14, [2**14]), (2**14 + 1, []), (100, [4096])):
        with memory.borrow((size,), np.uint8):
            pass
        assert list(library.pinned.values()) == kept


def test_texts_go_the_same_way(engine: Engine, library: CudaLibrary) -> None:
    ids = np.random.default_rng(0).integers(1, 1000, (5, 9))
    ids[:, -1] = 1023
    session = GpuSession(engine.text_session.session, library)
    tower = TowerSession(session, "token_ids", 1)
    np.testing.assert_array_equal(embed(tower, ids), engine.embed_texts(ids))
    assert session.runs[0].input_is_pinned


def test_on_the_cpu_nothing_is_pinned_and_an_array_is_not_copied(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    with engine.image_session.stacked(pixels) as batch:
        assert batch is pixels
    np.testing.assert_array_equal(embed(engine.image_session, list(pixels)), engine.embed_images(pixels))
    assert not library.calls


def test_vectors_do_not_change_when_the_buffers_are_used_again(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, session = image_tower(engine, library)
    first = embed(tower, list(pixels))
    kept, address = first[3], session.runs[0].output_address  # a row, as the cache keeps it
    expected = first.copy()
    for buffer_address, size in library.pinned.items():
        ctypes.memset(buffer_address, POISON, size)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(embed(tower, list(pixels[::-1])), engine.embed_images(pixels[::-1]))
    assert session.runs[1].output_address == address, "the buffer was not used again: this test shows nothing"
    np.testing.assert_array_equal(kept, expected[3])


def test_where_no_vectors_are_written_there_are_none_of_another_batch(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, session = image_tower(engine, library)
    assert np.isfinite(embed(tower, list(pixels))).all()
    session.session = SimpleNamespace(run_with_ortvaluevector=lambda *_: None)
    assert np.isnan(embed(tower, list(pixels))).all()


def test_two_batches_of_a_batcher_are_under_way_at_once_each_in_its_own_memory(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    both_run = threading.Barrier(2)
    tower, session = image_tower(engine, library, meanwhile=lambda: both_run.wait(60))
    batcher = Batcher("image", lambda rows: embed(tower, rows), max_batch=2, workers=2)

    async def ask() -> list[NDArray[np.float32]]:
        return await asyncio.gather(*batcher.submit(list(pixels), Timing()))

    try:
        got = asyncio.run(ask())
    finally:
        batcher.close()
    np.testing.assert_allclose(np.stack(got), engine.embed_images(pixels), atol=1e-6)
    assert len({run.thread for run in session.runs}) == 2
    for one, other in zip(session.runs[::2], session.runs[1::2], strict=True):
        assert one.input_address != other.input_address
        assert one.output_address != other.output_address
    assert len(library.pinned) == 4  # two of each, for however many batches
    assert set(library.devices) == {run.thread for run in session.runs}


def test_buffers_of_runs_that_fail_are_used_again(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA failure 2: out of memory")

    tower, session = image_tower(engine, library, meanwhile=fail)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="out of memory"):
            embed(tower, list(pixels))
    with pytest.raises(ValueError, match="same shape"):
        embed(tower, [pixels[0], pixels[1, :5]])
    session.meanwhile = lambda: None
    np.testing.assert_array_equal(embed(tower, list(pixels)), engine.embed_images(pixels))
    assert len(library.pinned) == 2


def test_a_larger_batch_takes_the_place_of_a_smaller_buffer(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, session = image_tower(engine, library)
    for size in (1, 2, 8, 3, 1, 5):
        np.testing.assert_array_equal(embed(tower, list(pixels[:size])), engine.embed_images(pixels[:size]))
        assert session.runs[-1].input_is_pinned
        assert len(library.pinned) == 2
    assert len({run.input_address for run in session.runs[2:]}) == 1
    assert sorted(library.pinned.values()) == [8192, 262144]  # of 8 x 256 x 4 and of 8 x 96 x 96 x 3 bytes


def test_only_a_few_buffers_are_kept(library: CudaLibrary) -> None:
    memory, all_borrowed = PinnedMemory(CudaRuntime(0)), threading.Barrier(6)

    def borrow(_: int) -> None:
        with memory.borrow((100,), np.uint8):
            all_borrowed.wait(60)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(borrow, range(6)))
    assert library.calls.count("cudaHostRegister") == 6
    assert len(library.pinned) == FREE_BUFFERS


def test_with_its_session_all_memory_is_given_back(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8]
) -> None:
    tower, _ = image_tower(engine, library)
    with tower.stacked(list(pixels)) as batch:
        tower.run(batch)
        kept = batch[2]
    gc.disable()  # a model that was replaced must not wait for the collector
    try:
        del tower, _, batch
        assert len(library.pinned) == 1, "what is still looked at was made pageable"
        np.testing.assert_array_equal(kept, pixels[2])
        del kept
        assert not library.pinned
    finally:
        gc.enable()


def test_memory_that_stays_pinned_is_not_given_to_others(library: CudaLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []  # not by `caplog`, whose records hold the error, its frames, and with them the memory
    monkeypatch.setattr(pinned_memory.log, "warning", lambda text, error: told.append(text % error))
    cuda = CudaRuntime(0)
    memory = PinnedMemory(cuda)
    with memory.borrow((2**26,), np.uint8) as array:
        address = array.ctypes.data
    library.fails = True
    del memory, array
    assert library.calls[-2:] == ["cudaHostUnregister", "cudaGetLastError"]
    assert is_mapped(address)
    [text] = told
    assert "stays pinned: cudaHostUnregister: out of memory" in text


def test_where_nothing_can_be_pinned_all_is_the_same_and_the_log_says_so_once(
    engine: Engine, library: CudaLibrary, pixels: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    library.fails = True
    tower, _ = image_tower(engine, library)
    for size in (2, 8):
        np.testing.assert_array_equal(embed(tower, list(pixels[:size])), engine.embed_images(pixels[:size]))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cudaHostRegister: out of memory (CUDA error 2)" in caplog.text
    # Or onnxruntime would find the error after its next kernel in this thread, and fail the run.
    assert library.calls == ["cudaHostRegister", "cudaGetLastError"] * 4


def test_without_the_library_of_cuda_the_log_names_the_one_that_onnxruntime_was_built_for(
    engine: Engine, pixels: NDArray[np.uint8], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "cuda_version", "913.0")
    cuda_runtime.cache_clear()
    tower, _ = image_tower(engine, CudaLibrary())
    np.testing.assert_array_equal(embed(tower, list(pixels)), engine.embed_images(pixels))
    cuda_runtime.cache_clear()
    assert len(caplog.records) == 1
    assert "libcudart.so.913" in caplog.text
