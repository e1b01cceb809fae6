"""A process that runs out of file descriptors: it neither spins nor ends, serves who is there, and recovers."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import Running, running
from tests.service.pictures import read
from tests.service.raw import LAST, answer, connected, eventually, exchange, request, statuses

TEXT = b'{"inputs": "a cat"}'
WATCHED_S = 3.0


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def busy_share(service: Running) -> float:
    """Of one core, over a while."""
    process = psutil.Process(service.process.pid)
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(WATCHED_S)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


@pytest.mark.parametrize("left", [None, 5], ids=["its limit keeps some free", "none are left"])
@pytest.mark.parametrize("sent", [b"", b"GET"], ids=["silent", "slow"])
def test_more_connections_than_descriptors(bundle_path: Path, tmp_path: Path, left: int | None, sent: bytes) -> None:
    started = running(tmp_path, bundle_path, before=few_descriptors, timeout_s="300")
    with started as service, connected(service) as early, ExitStack() as stack:
        early.sendall(request("/embed", "content-type: application/json", "transfer-encoding: chunked", method="POST"))
        if left is not None:  # fewer than its own limit of connections reckons with, as if something else held files
            process = psutil.Process(service.process.pid)
            process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + left, 64))
        for _ in range(150):
            stack.enter_context(connected(service)).sendall(sent)
        assert busy_share(service) < 0.2
        early.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(TEXT), TEXT))  # who was there before is served
        assert statuses(answer(early)) == [200]
        stack.close()
        eventually(lambda: statuses(exchange(service, request("/health/live", LAST))) == [200])
        # and not a line for each look
        assert service.log().count("ulimit -n") == (0 if left is None else 1)
        assert "Traceback" not in service.log()
        assert service.stop(wait_s=60) == 0


def test_what_needs_a_file_says_so(bundle_path: Path, tmp_path: Path) -> None:
    """While none is left, a client that is there gets the answers that need none, and refusals for others."""
    with running(tmp_path, bundle_path, timeout_s="300") as service, httpx.Client(timeout=120) as early:
        early.base_url = httpx.URL(service.url)
        assert early.put("/label-sets/animals", json={"labels": ["cat", "dog"]}).status_code == 201
        process = psutil.Process(service.process.pid)
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (0, hard))
        open_to_all = ("/metrics", "/info", "/health/live", "/health/ready", "/docs", "/", "/playground/api.js")
        codes = {path: early.get(path).status_code for path in open_to_all}
        assert codes == dict.fromkeys(codes, 200)
        assert early.post("/embed", json={"inputs": "a cat"}).status_code == 200
        picture = early.post("/embed", content=read("cat"), headers={"content-type": "image/png"})
        assert picture.status_code == 200
        assert early.get("/label-sets").status_code == 503
        assert early.put("/label-sets/others", json={"labels": ["cow"]}).status_code == 503
        with connected(service) as waiting:
            waiting.sendall(request("/health/live", LAST))
            assert busy_share(service) < 0.2
            process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
            assert statuses(answer(waiting)) == [200]
        assert early.get("/label-sets").status_code == 200
        assert "Traceback" not in service.log()
