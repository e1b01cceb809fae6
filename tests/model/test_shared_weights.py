"""Weights that several processes map: written once, the same to the last bit, and of nobody else."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from model.bundle import Bundle, bundled
from model.runtime.engine import Engine
from model.runtime.shared_weights import SharedWeights, SharedWeightsError

HOLD = """
import sys, pathlib
from model.runtime.shared_weights import SharedWeights
def write(folder):
    print("writes", flush=True)
    sys.stdin.readline()
    (folder / "a").write_bytes(b"weights")
held = SharedWeights(pathlib.Path(sys.argv[1])).hold("key", 0, write)
print("holds", held.read("a").decode(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(bundled())


def write(folder: Path) -> None:
    (folder / "a").write_bytes(b"weights")


def must_not_write(folder: Path) -> None:
    pytest.fail(f"{folder} is written again")


def hold(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_vectors_are_the_same_to_the_last_bit(bundle: Bundle, tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    alone, first, second = Engine(bundle, "cpu", 2), *(Engine(bundle, "cpu", 2, shared=shared) for _ in range(2))
    assert [engine.shares_weights for engine in (alone, first, second)] == [False, True, True]
    rng = np.random.default_rng(0)
    for size in (1, 3, 8):
        pixels = rng.integers(0, 256, (size, bundle.image_size, bundle.image_size, 3), np.uint8)
        ids = rng.integers(1, 1000, (size, 4 + size))
        for engine in (first, second):
            assert engine.embed_images(pixels).tobytes() == alone.embed_images(pixels).tobytes()
            assert engine.embed_texts(ids).tobytes() == alone.embed_texts(ids).tobytes()
    mapped = {Path(each.path).name for each in psutil.Process().memory_maps() if each.path.startswith(str(tmp_path))}
    assert mapped == {"image.onnx.weights", "text.onnx.weights"}
    first.close()
    assert second.embed_texts(ids).shape == (8, bundle.dimensions)
    assert list(tmp_path.iterdir())
    second.close()
    assert not list(tmp_path.iterdir())


def test_one_writes_while_another_waits_and_the_last_one_removes_it(tmp_path: Path) -> None:
    with hold(tmp_path) as writer:
        assert line_of(writer) == "writes"
        with hold(tmp_path) as other:
            go_on(writer)
            assert line_of(writer) == line_of(other) == "holds weights"  # which the other has not written
            writer.kill()
            writer.wait()
            SharedWeights(tmp_path).sweep()
            assert list(tmp_path.glob("key/*"))
            go_on(other)
            other.wait()
        SharedWeights(tmp_path).sweep()
        assert not list(tmp_path.iterdir())


def test_what_one_left_that_died_over_it_is_written_again(tmp_path: Path) -> None:
    with hold(tmp_path) as writer:
        assert line_of(writer) == "writes"
        writer.kill()
        writer.wait()
    (tmp_path / "key" / "half").write_bytes(b"of it")
    held = SharedWeights(tmp_path).hold("key", 0, write)
    assert [path.name for path in held.folder.iterdir()] == ["a"]
    assert held.read("a") == b"weights"


def test_altered_files_are_refused(tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    held = shared.hold("key", 0, write)
    file = held.folder / "a"
    file.unlink()
    file.write_bytes(b"wEights")
    with pytest.raises(SharedWeightsError, match="altered"):
        shared.hold("key", 0, must_not_write)
    with pytest.raises(SharedWeightsError, match="altered"):
        held.read("a")
    file.unlink()
    file.symlink_to("/etc/hostname")
    with pytest.raises(SharedWeightsError, match="symbolic link"):
        shared.hold("key", 0, must_not_write)


def test_without_room_each_has_weights_of_its_own(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Known before, or met while they are written."""
    with pytest.raises(SharedWeightsError, match="MB free"):
        SharedWeights(tmp_path).hold("key", 2**60, must_not_write)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        engine = Engine(bundle, "cpu", 1, shared=SharedWeights(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not engine.shares_weights
    engine.warm_up()
    assert "weights of its own" in caplog.text
    SharedWeights(tmp_path).sweep()
    assert not list(tmp_path.iterdir())
