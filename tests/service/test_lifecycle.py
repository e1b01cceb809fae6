"""Start and stop of the process: settings, bundles, signals, logs."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import clean_environment, running, starting, wait_until_ready
from service.settings import Settings

WORK = {"inputs": [f"{number} words that take a while to read in a row" for number in range(64)]}


def start(*flags: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run to its end: for starts that must fail."""
    return subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", *flags],
        env=clean_environment(settings) | {"COLUMNS": "200", "PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_answers_from_the_start_and_says_when_it_is_ready(bundle_path: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        starting(tmp_path, bundle_path, module=f"tests.service.failing_service {go}") as service,
        httpx.Client(base_url=service.url, timeout=60) as http,
    ):
        assert http.get("/health/live").status_code == 200
        for answer in (http.get("/health/ready"), http.post("/embed", json={"inputs": "too early"})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"]
        assert http.get("/info").json()["models"] == []
        go.touch()
        wait_until_ready(service)
        assert http.post("/embed", json={"inputs": "now"}).status_code == 200


def test_sigterm_while_it_loads(bundle_path: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with starting(tmp_path, bundle_path, module=f"tests.service.failing_service {go}") as service:
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        go.touch()
        assert service.process.wait(30) == 0


def test_sigterm_under_load_loses_nothing_accepted(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path) as service:
        outcomes: list[int | str] = []
        stopping = threading.Event()

        def client() -> None:
            with httpx.Client(base_url=service.url, timeout=300) as http:
                while not stopping.is_set():
                    outcomes.append(http.post("/embed", json=WORK).status_code)

        clients = [threading.Thread(target=client) for _ in range(6)]
        for thread in clients:
            thread.start()
        while len(outcomes) < 6:
            time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        wait_for_draining(service.url)
        draining = httpx.post(f"{service.url}/embed", json={"inputs": "still served"}, timeout=60)
        assert (draining.status_code, draining.headers["connection"]) == (200, "close")
        stopping.set()
        for thread in clients:
            thread.join()
        assert set(outcomes) == {200}
        assert service.process.wait(30) == 0
        assert "Traceback" not in service.log()


def wait_for_draining(url: str) -> None:
    ends = time.monotonic() + 30
    while (ready := httpx.get(f"{url}/health/ready", timeout=60)).status_code == 200:
        assert time.monotonic() < ends
    assert ready.status_code == 503
    assert ready.json()["error"]["code"] == "unavailable"
    assert ready.headers["retry-after"]
    assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200


def test_what_is_not_done_by_the_end_of_the_drain_is_told(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, drain_s="1", max_items="20000", queue_items="20000") as service:
        answers: list[httpx.Response] = []
        body = {"inputs": [f"{round} {text}" for round in range(300) for text in WORK["inputs"]]}

        def ask() -> None:
            answers.append(httpx.post(f"{service.url}/embed", json=body, timeout=300))

        thread = threading.Thread(target=ask)
        thread.start()
        while not service.metric("sightword_queue_items"):
            time.sleep(0.02)
        assert service.stop(wait_s=20) == 0
        thread.join()
        assert [answer.status_code for answer in answers] == [503]
        assert answers[0].json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize("used", [False, True])
def test_a_request_on_its_way_when_the_listener_closes_is_answered(
    bundle_path: Path, tmp_path: Path, used: bool
) -> None:
    with running(tmp_path, bundle_path, drain_s="1") as service:
        url = httpx.URL(service.url)
        connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
        connection.connect()
        if used:
            connection.request("GET", "/health/live")
            connection.getresponse().read()
        service.process.send_signal(signal.SIGTERM)
        wait_until_nobody_listens(url)
        connection.request("POST", "/embed", b'{"inputs": "on its way"}', {"content-type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert service.process.wait(30) == 0


def wait_until_nobody_listens(url: httpx.URL) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            socket.create_connection((url.host, url.port or 80), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    raise AssertionError("the listener stays open")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_soon(bundle_path: Path, tmp_path: Path, number: int) -> None:
    with running(tmp_path, bundle_path) as service:
        assert service.stop(number, wait_s=10) == 0


def test_an_altered_bundle_is_refused_by_name(bundle_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_path, tmp_path / "altered")
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8").replace("cat", "car", 1), "utf-8")
    outcome = start(folder=tmp_path, model=str(copy))
    assert outcome.returncode == 1
    assert "tokenizer.json" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_provider_that_is_not_there_stops_the_start(bundle_path: Path, tmp_path: Path) -> None:
    outcome = start("--provider", "openvino", folder=tmp_path, model=str(bundle_path))
    assert outcome.returncode == 1
    assert "OpenVINOExecutionProvider" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("flags", "settings", "named"),
    [
        (["--queue-items", "0"], {}, "--queue-items"),
        ([], {"timeout_s": "soon"}, "SIGHTWORD_TIMEOUT_S"),
        ([], {"provider": "abacus"}, "SIGHTWORD_PROVIDER"),
        (["--log-format", "xml"], {}, "--log-format"),
    ],
)
def test_a_wrong_setting_is_named(flags: list[str], settings: dict[str, str], named: str, tmp_path: Path) -> None:
    outcome = start(*flags, folder=tmp_path, **settings)
    assert outcome.returncode == 2
    assert named in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_flags_win_over_the_environment_over_the_file(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("SIGHTWORD_MAX_ITEMS=3\nSIGHTWORD_MAX_LABELS=4\nSIGHTWORD_TIMEOUT_S=5\n")
    monkeypatch.setenv("SIGHTWORD_MAX_ITEMS", "6")
    monkeypatch.setenv("SIGHTWORD_MAX_LABELS", "7")
    settings = Settings.read({"max_items": 8, "max_labels": None})
    assert (settings.max_items, settings.max_labels, settings.timeout_s) == (8, 7, 5)


def test_help_teaches(tmp_path: Path) -> None:
    outcome = start("--help", folder=tmp_path)
    assert outcome.returncode == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in outcome.stdout
    assert "curl" in outcome.stdout


def test_logs_are_json_without_content(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, max_itemz="5") as service:
        headers = {"x-request-id": "to-be-found"}
        httpx.post(f"{service.url}/embed?secret=query", json={"inputs": "a secret text"}, headers=headers, timeout=60)
        httpx.post(f"{service.url}/embed", json={"inputs": "a secret text"}, headers=headers, timeout=60)
        httpx.get(f"{service.url}/secret/path", timeout=60)
        service.stop()
        lines = [json.loads(line) for line in service.log().splitlines()]
    assert any("SIGHTWORD_MAX_ITEMZ" in line["message"] for line in lines)
    requests = [line for line in lines if line.get("request_id") == "to-be-found"]
    assert [(line["route"], line["status"]) for line in requests] == [("/embed", 422), ("/embed", 200)]
    assert requests[1]["ms"]["total"] > 0
    assert "secret" not in service.log()
