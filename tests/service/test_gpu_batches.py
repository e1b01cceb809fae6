"""The pipeline on a GPU that is stood in for: how batches of requests reach it, and how many at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.images.preprocessing import load_image
from model.runtime import pinned_memory
from model.runtime.engine import Engine
from model.runtime.pinned_memory import cuda_runtime
from model.runtime.session import TowerSession
from service.app import create_app
from service.inference.pipeline import Pipeline
from service.inference.warmup import TowerProfile, warm_up
from service.settings import Settings
from service.state import Service
from tests.model.cuda_library import CudaLibrary, GpuSession
from tests.service.pictures import FILES, as_base64, read

PROFILES = {"image": TowerProfile(4, 2, 0.01), "text": TowerProfile(4, 2, 0.001)}


class GpuEngine(Engine):
    """The real engine, whose towers say that they are on a GPU."""

    def __init__(self, bundle: Bundle, library: CudaLibrary) -> None:
        super().__init__(bundle, "cpu", 1)
        self.gpu_sessions = [GpuSession(tower.session, library) for tower in (self.image_session, self.text_session)]
        self.image_session, self.text_session = (
            TowerSession(session, name, 1)
            for session, name in zip(self.gpu_sessions, ("pixels", "token_ids"), strict=True)
        )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaLibrary]:
    library = CudaLibrary()
    monkeypatch.setattr(pinned_memory, "_library", library.load)
    cuda_runtime.cache_clear()
    yield library
    cuda_runtime.cache_clear()


def test_requests_are_answered_out_of_pinned_memory(bundle: Bundle, engine: Engine, library: CudaLibrary) -> None:
    gpu = GpuEngine(bundle, library)
    service = Service(Settings.read({"model": str(bundle.path), "max_batch": 4}))
    service.models.serve([Pipeline(bundle, gpu, service.shared, PROFILES)])
    for session in gpu.gpu_sessions:
        session.runs.clear()  # those of the warm-up

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            inputs = [{"image": as_base64(name)} for name in FILES] + [f"{name} of a museum" for name in FILES]
            answers = [await client.post("/embed", json={"inputs": inputs}) for _ in range(2)]  # again, of the cache
            return [answer.json()["data"] for answer in answers]

    computed, cached = asyncio.run(ask())
    asyncio.run(service.aclose())
    tokenizer = bundle.tokenizer()
    pixels = np.stack([load_image(read(name), bundle.preprocessing) for name in FILES])
    ids = [tokenizer.pad([row]) for row in tokenizer.encode([f"{name} of a museum" for name in FILES])]
    expected = np.concatenate([engine.embed_images(pixels), *(engine.embed_texts(row) for row in ids)])
    for data in (computed, cached):
        np.testing.assert_allclose([entry["embedding"] for entry in data], expected, atol=1e-5)
    for session in gpu.gpu_sessions:
        assert 3 <= len(session.runs) <= len(FILES)
        assert sum(run.input_shape[0] for run in session.runs) >= len(FILES)
        assert all(run.input_is_pinned and run.output_is_pinned for run in session.runs)


class CopyingEngine(Engine):
    """Computes one batch at a time, and copies others meanwhile, for `copy_s` each."""

    def __init__(self, bundle: Bundle, compute_s: float, copy_s: float) -> None:
        super().__init__(bundle, "cpu", 1)
        self.provider = "CUDAExecutionProvider"
        self._compute_s, self._copy_s = compute_s, copy_s
        self._computing = threading.Lock()

    def embed_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._run(len(pixels))

    def embed_texts(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._run(len(token_ids))

    def _run(self, items: int) -> NDArray[np.float32]:
        time.sleep(self._copy_s)
        with self._computing:
            time.sleep(self._compute_s)
        return np.ones((items, self._bundle.dimensions), np.float32)


def test_two_batches_of_a_tower_are_under_way_on_a_gpu(bundle: Bundle) -> None:
    profiles = warm_up(CopyingEngine(bundle, 0.01, 0.01), bundle, 8)
    assert {profile.workers for profile in profiles.values()} == {2}
