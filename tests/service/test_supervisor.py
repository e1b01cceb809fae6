"""An engine that fails for good: nobody is left waiting, it is opened again once, and then the process ends."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running, wait_until_ready


def ask_until_it_fails(service: Running) -> httpx.Response:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
        for number in range(1000):
            answer = http.post("/embed", json={"inputs": f"text {number}"})
            if answer.status_code != 200:
                return answer
    raise AssertionError("the engine never broke")


def failing(folder: Path, model: Path, mode: str, **settings: str) -> AbstractContextManager[Running]:
    return running(folder, model, module=f"tests.service.failing_service {mode}", cache_bytes="0", **settings)


@pytest.mark.parametrize("mode", ["once", "thread"])
def test_an_engine_that_breaks_is_opened_again(bundle_path: Path, tmp_path: Path, mode: str) -> None:
    with failing(tmp_path, bundle_path, mode) as service:
        answer = ask_until_it_fails(service)
        assert answer.json()["error"]["code"] in ("inference_error", "unavailable")
        assert "device" not in answer.text
        wait_until_ready(service)
        assert httpx.post(f"{service.url}/embed", json={"inputs": "served again"}, timeout=PATIENCE_S).is_success
        assert service.metric("sightword_engine_restarts_total") == 1


@pytest.mark.parametrize("mode", ["always", "stuck"])
def test_an_engine_that_breaks_again_ends_the_process(bundle_path: Path, tmp_path: Path, mode: str) -> None:
    with failing(tmp_path, bundle_path, mode, timeout_s="5") as service:
        assert ask_until_it_fails(service).status_code in (500, 503, 504)
        if mode == "always":
            wait_until_ready(service)
            assert ask_until_it_fails(service).status_code in (500, 503)
        assert service.process.wait(PATIENCE_S) == 1
        told = "has not come back" if mode == "stuck" else "fails again"
        assert told in service.log()
