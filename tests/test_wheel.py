"""The wheel, in an environment in which nothing else is, and in a folder that has nothing of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.service_process import clean_environment
from model.bundle import Bundle, bundled
from model.embedder import Embedder

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "service", "sightword", "training")
# What pip says where no package index can be reached.
OFFLINE = re.compile("NewConnectionError|NameResolutionError|Failed to establish|Temporary failure in name resolution")
SHORT = (
    "train --set steps=2 --set batch_size=16 --set evaluate_every=2 --set optimizer.warmup_steps=1 "
    '--set stages=[{"start":0.0,"pixels":32}] --no-tensorboard'
)


def pip(python: str | Path, *arguments: str | Path) -> None:
    done = subprocess.run([python, "-m", "pip", *arguments], capture_output=True, text=True, timeout=280)
    if OFFLINE.search(done.stderr + done.stdout):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what setuptools leaves behind it would find again the next time."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / file, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip(sys.executable, "wheel", source, "--no-deps", "--wheel-dir", built)
    [file] = built.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of programs of an environment that has the wheel with the extra `cpu`."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    pip(folder / "bin" / "python", "install", "--constraint", ROOT / "constraints.txt", f"{wheel}[cpu]")
    yield folder / "bin"
    shutil.rmtree(folder)


def run(program: Path | str, arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Outside the repository, with nothing of it on the path."""
    variables = {**clean_environment({}), "COLUMNS": "200", **environment}
    if "PYTHONPATH" not in environment:
        variables.pop("PYTHONPATH", None)
    command = [program, *arguments.split()]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=200, check=False)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    files = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    } - {"sightword/pyproject.toml", "sightword/README.md"}  # of the client's own distribution
    assert len(files) > 400
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert files - names == set()
    assert {name for name in names if ".dist-info/" not in name} - files == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("model inspect", "sightword-small"),
        ("model verify", "both towers run"),
        ("model presets", "ViT-B-32"),
        ("model models", "102 M parameters"),
        ("training --help", "python -m training evaluate"),
        ("training config", "sample/train-"),
        ("training datasets", "cifar10"),
        ("service --help", "SIGHTWORD_PORT"),
        ("sightword --help", "sightword doctor"),
    ],
)
def test_programs_find_their_data(installed: Path, arguments: str, said: str, tmp_path: Path) -> None:
    done = run(installed / "python", f"-m {arguments}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_what_is_missing_is_asked_of_the_wheel_again(installed: Path, wheel: Path, tmp_path: Path) -> None:
    done = run(installed / "python", "-m training", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f'-m pip install "sightword[training] @ {wheel.as_uri()}"' in done.stderr


NAMES = ("model", "service", "training", "sightword")


def test_the_command_is_immune_to_what_is_in_the_current_folder(installed: Path, tmp_path: Path) -> None:
    """`python -m sightword` is not, and says so; of `python -m service` only what is called service itself is run."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this must not run')")
    picture = ROOT / "model" / "probe_data" / "coffee.jpg"
    done = run(installed / "sightword", f"classify {picture} --labels cat,coffee", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["label"] == "coffee"
    served = run(installed / "sightword", "serve --port -1", tmp_path)
    assert served.returncode == 2
    assert "SIGHTWORD_PORT" in served.stderr
    assert "SIGHTWORD_PORT" in run(installed / "sightword", "serve --help", tmp_path).stdout
    doctor = run(installed / "sightword", "doctor", tmp_path)
    found = [json.loads(line) for line in doctor.stdout.splitlines()]
    assert [each for each in found if each["status"] == "fail"] == []
    assert [each["about"] for each in found].count("shadowing") == len(NAMES)
    for name in ("service", "training", "sightword"):
        (tmp_path / f"{name}.py").unlink()
        shadowed = run(installed / "python", f"-m {name} --help", tmp_path)
        assert shadowed.returncode == 1
        assert shadowed.stderr.startswith(str(tmp_path / "model.py"))


def test_the_service_has_its_model_its_page_and_its_documentation(installed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    variables = {name: value for name, value in clean_environment({"port": "0"}).items() if name != "PYTHONPATH"}
    with log.open("wb") as output:
        command = [installed / "python", "-m", "service"]
        process = subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=output)
    try:
        url = wait_for(process, log)
        page = httpx.get(url).text
        files = re.findall(r'(?:src|href)="([\w./-]+\.(?:js|css|svg))"', page)
        docs = httpx.get(f"{url}/docs").text
        files += [name.lstrip("/") for name in re.findall(r'(?:src|href)="([^"]+)"', docs)]
        assert len(files) > 5
        assert {name: httpx.get(f"{url}/{name}").status_code for name in files} == dict.fromkeys(files, 200)
        assert "/embed" in httpx.get(f"{url}/openapi.json").json()["paths"]
        [entry] = httpx.post(f"{url}/embed", json={"inputs": ["a cat"]}).json()["data"]
        np.testing.assert_allclose(
            entry["embedding"], Embedder(Bundle.load(bundled())).embed_texts(["a cat"])[0], atol=1e-5
        )
    finally:
        process.terminate()
        assert process.wait(40) == 0


def wait_for(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address of a service, once it is ready."""
    while process.poll() is None:
        if "ready after" in (text := log.read_text("utf-8")):
            return re.findall(r"running on (http://127\.0\.0\.1:\d+)", text)[0]
    raise AssertionError(log.read_text("utf-8"))


def test_training_from_the_wheel_makes_a_bundle(wheel: Path, tmp_path: Path) -> None:
    """With the packages of these tests, torch among them: only ours come from the wheel."""
    pytest.importorskip("torch")
    packages, runs = tmp_path / "packages", tmp_path / "elsewhere"
    runs.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    copied = run(sys.executable, "-m training config", runs, PYTHONPATH=os.fspath(packages)).stdout
    assert str(packages) in copied  # and not what is installed here
    done = run(sys.executable, f"-m training {SHORT}", runs, PYTHONPATH=os.fspath(packages))
    assert done.returncode == 0, done.stderr
    assert (runs / "runs" / "sample" / "bundle" / "bundle.json").is_file()
    assert (runs / "runs" / "sample" / "report.html").stat().st_size > 10_000
