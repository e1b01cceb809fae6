"""The container's limit of memory, met by pictures made to take as much as a decoder can be brought to take."""

from __future__ import annotations

import io
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from benchmarks.decoding.files import WORST
from tests.containers.project import Project, docker, wait_for

LIMIT = "1900m"  # under what clients could make it need, by the sum that the service itself does
SIDE = 7_000  # 49 million pixels, just under what is taken
CLIENTS, LOAD_S = 24, 15.0
REFUSED = {400, 413, 422, 429, 503, 504}


def encoded(mode: str, side: int, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, format_name, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    whole = {
        "PNG": encoded("RGBA", SIDE, "PNG", compress_level=1),
        "WebP": encoded("RGBA", SIDE, "WEBP", lossless=True, method=0),
        "progressive JPEG": encoded("CMYK", SIDE, "JPEG", progressive=True),
        "TIFF": WORST["TIFF, 16-bit RGBA in one strip"](SIDE),
        "TIFF's largest tile": WORST["TIFF, 64 x 64 in the largest tile"](SIDE),
        "run lengths": WORST["BMP, run lengths"](SIDE),
        "decoded on all cores": encoded("RGBA", 2_990, "PNG", compress_level=1),
        "too many pixels": encoded("L", 7_100, "PNG", compress_level=1),
    }
    cut = {f"{name}, cut": file[: len(file) * 2 // 3] for name, file in whole.items()}
    return whole | cut


@pytest.fixture(scope="module")
def tight(images: None) -> Iterator[Project]:
    project = Project(f"sightword-test-{os.getpid()}-tight", {"SERVICE_MEMORY": LIMIT})
    try:
        project.compose("up", "--detach", "--wait", "sightword")
        yield project
    finally:
        project.down()
    assert not project.left()


def test_hostile_pictures_are_refused_before_the_memory_is_gone(tight: Project, hostile: dict[str, bytes]) -> None:
    url, outcomes = tight.url("SIGHTWORD_PORT"), Counter[str | int]()
    in_turn = list(hostile.values())
    long = hostile["PNG"] + os.urandom(30 * 2**20)  # what waits with its bytes, and fills the queue
    started = tight.inspect("sightword", "{{.State.StartedAt}}")
    ends = time.monotonic() + LOAD_S

    def send(number: int) -> None:
        files = [long] if number % 2 else in_turn
        with httpx.Client(timeout=90) as client:
            while time.monotonic() < ends:
                number += 2
                headers = {"content-type": "image/png"}
                try:
                    # A few bytes more are another file, which no cache has.
                    body = files[number // 2 % len(files)] + os.urandom(8)
                    outcomes[client.post(f"{url}/embed", content=body, headers=headers).status_code] += 1
                except httpx.WriteError:
                    outcomes["refused while it was sent"] += 1
                except httpx.HTTPError as error:
                    outcomes[repr(error)] += 1

    threads = [threading.Thread(target=send, args=(number,), daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    print(dict(outcomes), peak(tight))
    assert "this container may hold" in tight.compose("logs", "sightword")
    assert tight.inspect("sightword", "{{.State.OOMKilled}} {{.RestartCount}} {{.State.StartedAt}}") == (
        f"false 0 {started}"
    )
    assert {200, 413, 429} <= set(outcomes) <= {200, "refused while it was sent"} | REFUSED
    wait_for("an answer", lambda: httpx.post(f"{url}/embed", json={"inputs": ["a text"]}).status_code == 200)


def peak(project: Project) -> str:
    """Most that the container has held, of its limit."""
    files = "/sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes"
    return docker("exec", project.container("sightword"), "sh", "-c", f"cat {files} 2>/dev/null || true").strip()
