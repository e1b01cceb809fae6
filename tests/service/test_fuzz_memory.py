"""What pictures of many pixels cost: one at a time, even when their clients do not wait, and nothing afterwards."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from benchmarks.service_process import PATIENCE_S, Running, running

SIDE = 4500
# Measured: 340 MiB, for WebP with alpha that is to be turned upright, which takes most.
ONE_BYTES = 360 * 2**20


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Small files of 20 million pixels each."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for shade in range(8):
        stream = io.BytesIO()
        picture = Image.new("RGBA", (SIDE, SIDE), (shade, 2, 3, 4))
        picture.save(stream, "WEBP", lossless=True, quality=0, method=0, exif=exif)
        files.append(stream.getvalue())
    return files


@pytest.fixture(scope="module")
def service(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("memory"), bundle_path, timeout_s="300", cache_bytes="0") as service:
        yield service


@pytest.fixture(scope="module")
def base(service: Running) -> int:
    """Bytes resident before the first picture."""
    return psutil.Process(service.process.pid).memory_info().rss


@contextmanager
def peak(service: Running) -> Iterator[list[int]]:
    """The most bytes resident, while the block runs."""
    process, ended, most = psutil.Process(service.process.pid), threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def send_all(service: Running, pictures: list[bytes], timeout_s: float) -> list[int]:
    statuses = []

    def send(body: bytes) -> None:
        with contextlib.suppress(httpx.TimeoutException):
            headers = {"content-type": "image/webp"}
            statuses.append(
                httpx.post(f"{service.url}/embed", content=body, headers=headers, timeout=timeout_s).status_code
            )

    threads = [threading.Thread(target=send, args=(body,)) for body in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_one_at_a_time_and_nothing_afterwards(service: Running, base: int, pictures: list[bytes]) -> None:
    with peak(service) as most:
        assert send_all(service, pictures, 300) == [200] * len(pictures)
    assert most[0] - base < 1.5 * ONE_BYTES, (most[0] >> 20, base >> 20)
    if sys.platform.startswith("linux"):  # other C libraries give memory back in other ways
        assert psutil.Process(service.process.pid).memory_info().rss - base < 150 * 2**20


def test_hanging_up_does_not_let_the_next_one_in(service: Running, base: int, pictures: list[bytes]) -> None:
    """A thread that decodes cannot be interrupted: its turn ends when it ends, not when its client leaves."""
    with peak(service) as most:
        for _ in range(8):
            send_all(service, pictures[:2], 0.15)
        ends = time.monotonic() + PATIENCE_S
        while service.metric("sightword_queue_items"):
            assert time.monotonic() < ends
            time.sleep(0.05)
        assert send_all(service, pictures[:1], 300) == [200]
    assert most[0] - base < 1.5 * ONE_BYTES, (most[0] >> 20, base >> 20)
