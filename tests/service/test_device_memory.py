"""The memory of a GPU as the service reads it, and what fits beside a model that serves."""

from __future__ import annotations

import asyncio
import threading

import pytest

from model.bundle import Bundle
from model.manifest import WEIGHTS
from model.runtime.device_memory import DeviceMemory
from model.runtime.engine import EngineError
from model.runtime.gpu import GpuError
from service import device_memory
from service.device_memory import DeviceMemoryReader, refuse_without_room

MEMORY = DeviceMemory(total=16 * 10**9, free=3 * 10**9)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "choose", lambda provider: ["cuda", "cpu"])


@pytest.mark.usefixtures("on_gpu")
def test_it_is_read_of_the_device_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "read_device_memory", {3: MEMORY}.get)
    assert asyncio.run(DeviceMemoryReader("cuda", 3).current()) == MEMORY
    assert asyncio.run(DeviceMemoryReader("cuda", 2).current()) is None


def test_without_a_gpu_no_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(device_memory, "read_device_memory", asked.append)
    assert asyncio.run(DeviceMemoryReader("cpu").current()) is None
    assert DeviceMemoryReader("cpu").read() is None
    assert asked == []


@pytest.mark.usefixtures("on_gpu")
def test_a_driver_that_hangs_holds_up_nobody_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    answers = threading.Event()

    def hanging(device: int) -> DeviceMemory:
        asked.append(device)
        answers.wait()
        return MEMORY

    async def scenario() -> None:
        reader = DeviceMemoryReader("cuda")
        assert [await reader.current() for _ in range(3)] == [None] * 3
        assert asked == [0]
        answers.set()
        assert await reader.current() == MEMORY

    monkeypatch.setattr(device_memory, "read_device_memory", hanging)
    monkeypatch.setattr(device_memory, "READ_S", 0.05)
    try:
        asyncio.run(scenario())
    finally:
        answers.set()


@pytest.mark.usefixtures("on_gpu")
def test_a_driver_that_refuses_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing(device: int) -> DeviceMemory:
        raise GpuError("the NVIDIA driver says: error 100")

    monkeypatch.setattr(device_memory, "read_device_memory", refusing)
    reader = DeviceMemoryReader("auto")
    assert [asyncio.run(reader.current()) for _ in range(3)] == [None] * 3
    assert caplog.text.count("error 100") == 1


def test_what_is_needed_is_its_weights_and_what_the_served_one_needs_beside_its_own(bundle: Bundle) -> None:
    weights = bundle.manifest.files[WEIGHTS].bytes
    beside = 700_000_000
    exactly = DeviceMemory(16 * 10**9, weights + beside)
    refuse_without_room(bundle, bundle, weights + beside, exactly)
    with pytest.raises(EngineError, match=r"needs about .* 700 MB to run"):
        refuse_without_room(bundle, bundle, weights + beside, exactly._replace(free=exactly.free - 1))
    refuse_without_room(bundle, bundle, 0, exactly._replace(free=weights))  # nothing is known of the one served
