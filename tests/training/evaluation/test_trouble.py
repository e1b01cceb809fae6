"""What evaluation says of data that are broken, and of a disk that is full."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.conftest import picture, write_shard
from training.__main__ import app


def npy(values: list[int]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def benchmark(folder: Path, kind: str, members: dict[str, bytes]) -> Path:
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text(kind)
    (folder / "classnames.txt").write_text("red\ngreen\n")
    write_shard(folder / "test" / "0.tar", members)
    return folder


GOOD = {"a.png": picture("red", 0), "b.png": picture("green", 1)}


@pytest.mark.parametrize(
    ("kind", "members", "message"),
    [
        ("retrieval", {"a.txt": b"a red wall", "b.txt": b" \n\n"}, "the sample b has no caption"),
        ("retrieval", {"a.txt": b"a red wall"}, "the sample b has no .txt"),
        ("classification", {"a.cls": b"0"}, "the sample b has no .cls"),
        ("classification", {"a.cls": b"0", "b.cls": b"x"}, "not a number below 2"),
        ("classification", {"a.npy": npy([0, 1])}, "sample b cannot be read"),
        ("classification", {"a.npy": npy([0, 1]), "b.npy": npy([1])}, "of shape (1,)"),
        ("classification", {"a.npy": npy([0, 1]), "b.npy": b"no array"}, "sample b cannot be read"),
        ("classification", {"a.cls": b"0", "b.cls": b"1", "b.png": b"no picture"}, "0.tar, at byte"),
    ],
)
def test_broken_samples_are_named(tmp_path: Path, kind: str, members: dict[str, bytes], message: str) -> None:
    folder = benchmark(tmp_path / "set", kind, dict(sorted((GOOD | members).items())))
    done = CliRunner().invoke(app, ["evaluate", "--data", str(folder)])
    assert done.exit_code == 1
    assert message in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("damage", ["cut in a header", "cut in a picture", "no tar"])
def test_a_corrupt_shard_is_named(tmp_path: Path, damage: str) -> None:
    told = {f"{name[0]}.json": json.dumps({"label": name}).encode() for name in ("ared", "bgreen")}
    shard = write_shard(tmp_path / "test-0.tar", dict(sorted((GOOD | told).items())))
    content = shard.read_bytes()
    cut = {"cut in a header": content[: 512 + 100], "cut in a picture": content[:3000], "no tar": b"x" * 5000}[damage]
    shard.write_bytes(cut)
    done = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path / "test-*.tar")])
    assert done.exit_code == 1
    assert "test-0.tar" in done.output
    assert isinstance(done.exception, SystemExit)


def test_a_full_disk_is_told_after_the_figures(tmp_path: Path) -> None:
    told = {f"{key}.json": json.dumps({"label": key}).encode() for key in ("a", "b")}
    write_shard(tmp_path / "test-0.tar", dict(sorted((GOOD | told).items())))
    (tmp_path / "results.json").symlink_to("/dev/full")
    arguments = ["evaluate", "--data", str(tmp_path / "test-*.tar"), "--output", str(tmp_path / "results.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "No space left on device" in done.output
    assert "top-1" in done.output
    assert isinstance(done.exception, SystemExit)
