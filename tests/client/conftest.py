"""The client against the real service over a socket, and against one on a bad line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sightword
from benchmarks.service_process import Running
from sightword.local.embedder import Local
from tests.client.bad_line import BadLine, bad_line
from tests.service.conftest import bundle, bundle_path, llip, llip_service, narrow, service

__all__ = ["bundle", "bundle_path", "llip", "llip_service", "narrow", "service"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGHTWORD_URL", "SIGHTWORD_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(service: Running) -> Iterator[sightword.Client]:
    with sightword.Client(service.url, timeout_s=200) as client:
        yield client


@pytest.fixture(scope="session")
def local(bundle_path: Path) -> Iterator[Local]:
    with sightword.load(str(bundle_path), "cpu") as local:
        yield local


@pytest.fixture
def line(service: Running) -> Iterator[BadLine]:
    with bad_line(service.url) as line:
        yield line
