"""Settings of a GPU, up to where onnxruntime takes over; and a service that could use one, where there is none."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import onnxruntime as ort
import pytest

from benchmarks.service_process import running
from model.runtime import gpu
from model.runtime.engine import Engine
from model.runtime.providers import Device, EngineError
from service import opening, shared_memory
from service.board import Board
from service.settings import Settings, SettingsError
from service.state import Service
from service.workers.handover import Handover
from service.workers.worker import Worker


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """Those that engines were opened with."""
    opened: list[Device] = []

    def record(*arguments: Any, device: Device, **others: Any) -> Engine:
        opened.append(device)
        return Engine(*arguments, device=device, **others)

    monkeypatch.setattr(opening, "Engine", record)
    return opened


def load(worker: Worker | None = None, **settings: Any) -> None:
    service = Service(Settings.read(settings), worker)
    service.models.load()
    service.models.close()


def test_the_device_reaches_the_engine(bundle_path: Path, devices: list[Device]) -> None:
    load(model=str(bundle_path), device=3, max_batch=200)
    load(model=str(bundle_path))
    assert devices == [Device(3, None, 200), Device(0, None, 128)]


def test_the_memory_is_divided_among_all_arenas(bundle_path: Path, devices: list[Device]) -> None:
    """Two towers a model, and two more for the time of a reload."""
    load(model=str(bundle_path), gpu_memory_bytes=8 * 2**30)
    assert [device.arena_bytes for device in devices] == [2 * 2**30]


def test_and_among_all_workers(bundle_path: Path, devices: list[Device]) -> None:
    ours, theirs = socket.socketpair()
    board = shared_memory.create("board", Board.size(4))
    worker = Worker(Handover(0, 4, {}, sockets=[], channel=theirs.detach(), board=board, cache=None))
    with ours:
        load(worker, model=str(bundle_path), gpu_memory_bytes=8 * 2**30)
    assert [device.arena_bytes for device in devices] == [2**29]


@pytest.mark.parametrize("settings", [{"device": "-1"}, {"device": "all"}, {"gpu_memory_bytes": "8"}])
def test_what_cannot_be_meant_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=f"SIGHTWORD_{next(iter(settings)).upper()}"):
        Settings.read(settings)


def test_a_gpu_that_is_not_there_stops_the_start_before_a_model_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(gpu, "DRIVER_LIBRARY", "libcuda-that-is-not-there.so.1")
    service = Service(Settings.read({"provider": "cuda"}))
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider was asked for, but no NVIDIA driver: .*docs/gpu\.md"):
        service.models.check()


def test_auto_serves_on_the_cpu_and_says_why(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, module="tests.service.gpu_service", log_format="text") as service:
        [model] = httpx.get(f"{service.url}/info").json()["models"]
        assert (model["provider"], model["gpu"]) == ("CPUExecutionProvider", None)
        assert "no NVIDIA driver" in model["provider_problem"]
        assert "computes on the CPU: no NVIDIA driver" in service.log()


def test_where_no_gpu_was_possible_nothing_is_missed(service: Any) -> None:
    [model] = httpx.get(f"{service.url}/info").json()["models"]
    assert model["gpu"] is model["provider_problem"] is None
    assert "computes on the CPU" not in service.log()
