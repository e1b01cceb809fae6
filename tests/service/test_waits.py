"""What never answers is given up: by name, after a limit, and without a lock, a thread or an end that waits for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.service_process import PATIENCE_S, Running, clean_environment, running, starting
from tests.service.raw import eventually

KEY = "an operator's long key"
ADMIN = {"x-api-key": KEY}
FILES = ("bundle.json", "image.onnx", "text.onnx", "tokenizer.json", "weights.safetensors")


def reload(service: Running) -> httpx.Response:
    return httpx.post(f"{service.url}/admin/reload", headers=ADMIN, timeout=PATIENCE_S)


def message(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


def start(folder: Path, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run to its end: for starts that must fail."""
    return subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", *flags],
        env=clean_environment(settings) | {"COLUMNS": "200", "PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


class TestWhatIsNoFile:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [*((name, "FIFO") for name in FILES)]
        + [(name, kind) for name in (FILES[0], FILES[-1]) for kind in ("device", "folder", "endless link")],
    )
    def test_in_a_bundle_at_the_start(self, bundle_path: Path, tmp_path: Path, name: str, kind: str) -> None:
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        replace(copy / name, kind)
        outcome = start(tmp_path, model=str(copy))
        assert outcome.returncode == 1
        assert "cannot start" in outcome.stderr
        assert name in outcome.stderr
        assert "Traceback" not in outcome.stderr

    def test_in_a_bundle_at_a_reload(self, bundle_path: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        with running(tmp_path, copy, admin_key=KEY) as service:
            for name in FILES:
                replace(copy / name, "FIFO")
                answer = reload(service)
                assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_bundle")
                assert name in message(answer)
                (copy / name).unlink()
                shutil.copy(bundle_path / name, copy)
                assert reload(service).status_code == 200
            replace(copy / "bundle.json", "FIFO")
            service.process.send_signal(signal.SIGHUP)
            service.process.send_signal(signal.SIGHUP)
            eventually(lambda: "nothing was reloaded" in service.log())
            assert httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, timeout=PATIENCE_S).status_code == 200
            assert service.stop(wait_s=20) == 0

    def test_for_keys(self, bundle_path: Path, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        os.mkfifo(keys)
        outcome = start(tmp_path, model=str(bundle_path), api_keys_file=str(keys))
        assert outcome.returncode == 2
        assert "SIGHTWORD_API_KEYS_FILE" in outcome.stderr
        keys.unlink()
        keys.write_text("0123456789abcdef\n")
        with running(tmp_path, bundle_path, admin_key=KEY, api_keys_file=str(keys)) as service:
            keys.unlink()
            os.mkfifo(keys)
            assert reload(service).status_code == 200
            assert "the API keys are those from before" in service.log()
            known = {"x-api-key": "0123456789abcdef"}
            assert httpx.get(f"{service.url}/models", headers=known, timeout=PATIENCE_S).status_code == 200

    def test_for_label_sets(self, bundle_path: Path, tmp_path: Path) -> None:
        (tmp_path / "label-sets").mkdir()
        os.mkfifo(tmp_path / "label-sets" / "animals.json")
        with running(tmp_path, bundle_path) as service, httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
            assert http.get("/label-sets/animals").status_code == 404
            assert http.get("/label-sets").json()["label_sets"] == []
            assert "animals.json is not a label set" in service.log()
            assert http.put("/label-sets/animals", json={"labels": ["cat", "dog"]}).status_code in (200, 201)
            assert http.get("/label-sets/animals").status_code == 200

    @pytest.mark.parametrize("content", [None, b"SIGHTWORD_PORT=0\n# caf\xe9\n"], ids=["a FIFO", "not UTF-8"])
    def test_for_settings(self, bundle_path: Path, tmp_path: Path, content: bytes | None) -> None:
        if content is None:
            os.mkfifo(tmp_path / ".env")
        else:
            (tmp_path / ".env").write_bytes(content)
        outcome = start(tmp_path, model=str(bundle_path))
        assert outcome.returncode == 2
        assert ".env" in outcome.stderr
        assert "Traceback" not in outcome.stderr


def replace(file: Path, kind: str) -> None:
    file.unlink()
    match kind:
        case "FIFO":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case _:
            file.symlink_to(file.name)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    return tmp_path / "hang"


@contextmanager
def hanging(folder: Path, model: Path, fifo: Path, below: Path, **settings: str) -> Iterator[Running]:
    module = f"tests.service.hanging_service {fifo} {below}"
    with running(folder, model, module=module, admin_key=KEY, drain_s="2", **settings) as service:
        yield service


def let_go(fifo: Path) -> None:
    """The file system is back: whoever waits in it goes on."""
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    fifo.unlink()
    os.close(writer)


class TestWhatHangs:
    def test_a_bundle_at_a_reload(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        with hanging(tmp_path, copy, fifo, copy) as service:
            os.mkfifo(fifo)
            threads = []
            for _ in range(4):
                answer = reload(service)
                threads.append(psutil.Process(service.process.pid).num_threads())
                assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_bundle")
                assert "has not answered for 1 s" in message(answer)
            assert httpx.post(f"{service.url}/embed", json={"inputs": "a cat"}, timeout=PATIENCE_S).status_code == 200
            assert (
                threads[-1] < threads[0] + 3
            )  # one that hangs is enough; some thread of a pool may have come meanwhile
            let_go(fifo)
            eventually(lambda: reload(service).status_code == 200)

    def test_two_reloads_at_once(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        """The second neither waits for ever nor is it taken for done."""
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        with hanging(tmp_path, copy, fifo, copy) as service:
            os.mkfifo(fifo)
            answers: list[httpx.Response] = []
            others = [threading.Thread(target=lambda: answers.append(reload(service))) for _ in range(4)]
            for other in others:
                other.start()
            for other in others:
                other.join()
            codes = sorted(answer.status_code for answer in answers)
            assert codes[0] == 422
            assert set(codes) <= {422, 503}
            assert 503 in codes
            assert all("still are" in message(answer) for answer in answers if answer.status_code == 503)

    def test_the_process_ends_all_the_same(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        with hanging(tmp_path, copy, fifo, tmp_path) as service:
            os.mkfifo(fifo)
            service.process.send_signal(signal.SIGHUP)
            for _ in range(6):
                assert httpx.get(f"{service.url}/label-sets/animals", timeout=PATIENCE_S).status_code == 503
            began = time.monotonic()
            assert service.stop(wait_s=60) == 0
            assert time.monotonic() - began < 30  # 2 s of draining and 10 s for what hangs; the machine may be busy
            assert "Traceback" not in service.log()

    def test_a_folder_of_label_sets(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        """It takes no thread that others need."""
        with (
            hanging(tmp_path, bundle_path, fifo, tmp_path / "label-sets") as service,
            httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
        ):
            assert http.put("/label-sets/animals", json={"labels": ["cat", "dog"]}).status_code == 201
            os.mkfifo(fifo)
            for name in "abcdefgh":
                assert http.get(f"/label-sets/{name}").status_code == 503
            assert reload(service).status_code == 200
            assert http.post("/classify", json={"inputs": "a cat", "label_set": "animals"}).status_code == 200
            let_go(fifo)
            eventually(lambda: http.get("/label-sets/animals").status_code == 200)

    def test_keys(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        folder = tmp_path / "keys"
        folder.mkdir()
        (folder / "keys").write_text("0123456789abcdef\n")
        with hanging(tmp_path, bundle_path, fifo, folder, api_keys_file=str(folder / "keys")) as service:
            os.mkfifo(fifo)
            assert reload(service).status_code == 200
            assert "the API keys are those from before" in service.log()

    def test_a_bundle_at_the_start(self, bundle_path: Path, tmp_path: Path, fifo: Path) -> None:
        copy = shutil.copytree(bundle_path, tmp_path / "bundle")
        os.mkfifo(fifo)
        outcome = subprocess.run(
            [sys.executable, "-m", "tests.service.hanging_service", str(fifo), str(copy), "--port", "0"],
            env=clean_environment({"model": str(copy)}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert outcome.returncode == 1
        assert "has not answered for 1 s" in outcome.stderr


class TestTheStart:
    def test_a_taken_port(self, bundle_path: Path, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            outcome = start(tmp_path, "--port", str(port), model=str(bundle_path))
        assert outcome.returncode == 1
        assert f"port {port} of 127.0.0.1 is taken" in outcome.stderr
        assert "--port or SIGHTWORD_PORT" in outcome.stderr
        assert "running on" not in outcome.stderr
        assert "Traceback" not in outcome.stderr

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "not a host", "a" * 300, "::1%nothing"])
    def test_a_host_that_is_not_this_machine(self, bundle_path: Path, tmp_path: Path, host: str) -> None:
        outcome = start(tmp_path, "--host", host, model=str(bundle_path))
        assert outcome.returncode == 1
        assert "SIGHTWORD_HOST" in outcome.stderr
        assert "Traceback" not in outcome.stderr

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"model": "ViT-B-33"}, "ViT-B-32"),
            ({"model": "/no/such/folder"}, "/no/such/folder"),
            ({"model": "."}, "bundle.json"),
            ({"provider": "openvino"}, "OpenVINOExecutionProvider"),
        ],
    )
    def test_what_cannot_be_served_is_told_before_it_listens(
        self, tmp_path: Path, settings: dict[str, str], named: str
    ) -> None:
        outcome = start(tmp_path, **settings)
        assert outcome.returncode == 1
        assert named in outcome.stderr
        assert "running on" not in outcome.stderr

    def test_the_line_says_that_it_is_loading(self, bundle_path: Path, tmp_path: Path) -> None:
        go = tmp_path / "go"
        with starting(tmp_path, bundle_path, module=f"tests.service.failing_service {go}") as service:
            assert "loading sightword-small" in service.log()
            go.touch()
            eventually(lambda: "ready after" in service.log())

    def test_ipv6_and_names(self, bundle_path: Path, tmp_path: Path) -> None:
        with running(tmp_path, bundle_path, "--host", "localhost") as service:
            assert httpx.get(f"{service.url}/health/live", timeout=PATIENCE_S).status_code == 200
