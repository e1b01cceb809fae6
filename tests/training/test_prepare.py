"""Shards out of what people have, as a user makes them: by the command."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tests.training.conftest import picture, write_shard
from training.__main__ import app
from training.config import Data
from training.data.dataset import TrainingSet


def prepare(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def scene(seed: int, size: tuple[int, int] = (200, 120)) -> Image.Image:
    """Something with shapes, as photographs have: coarse noise, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def enlarged(png: bytes, side: int) -> bytes:
    """A PNG whose header says that it is a square of `side` pixels; to make a real one takes gigabytes."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight captioned pictures, one of them broken, one without a caption, and one as large as a bomb."""
    made = tmp_path / "pictures"
    made.mkdir()
    for number in range(8):
        (made / f"{number}.jpg").write_bytes(encoded(scene(number)))
        (made / f"{number}.txt").write_text(f"scene {number}\nanother\n", "utf-8")
    (made / "2.jpg").write_bytes(b"\xff\xd8 no picture")
    (made / "3.txt").unlink()
    (made / "4.jpg").rename(made / "4.png")
    (made / "4.png").write_bytes(enlarged(encoded(scene(4), "PNG"), 90_000))
    return made


def test_a_folder_becomes_shards_that_train(folder: Path, tmp_path: Path) -> None:
    done = prepare(folder, "--to", tmp_path / "out", "--shard-size", 2, "--name", "mine")
    assert done.exit_code == 0, done.output
    assert "5 pictures in 3 shards" in done.output
    assert "3 in all: broken picture: 1, no readable text: 1, too many pixels: 1" in done.output
    shards = sorted((tmp_path / "out").iterdir())
    assert [shard.name for shard in shards] == ["mine-000000.tar", "mine-000001.tar", "mine-000002.tar"]
    first = members(shards[0])
    assert list(first) == ["00000000.jpg", "00000000.json", "00000001.jpg", "00000001.json"]
    assert first["00000001.jpg"] == (folder / "1.jpg").read_bytes()
    assert json.loads(first["00000001.json"]) == {
        "captions": ["scene 1", "another"],
        "caption_fields": ["txt", "txt"],
        "origin": "pictures/1.jpg",
    }
    told = yaml.safe_load(done.output[done.output.index("data:") :])
    data = TrainingSet(Data(**told["data"], holdout=0), Path("/"), 0)
    assert len(data) == 5
    again = [shard.read_bytes() for shard in shards]
    refused = prepare(folder, "--to", tmp_path / "out", "--shard-size", 2, "--name", "mine")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    more = prepare(folder, "--to", tmp_path / "out", "--shard-size", 3, "--name", "mine", "--overwrite")
    assert more.exit_code == 0
    assert not shards[2].exists()
    assert prepare(folder, "--to", tmp_path / "out", "--shard-size", 2, "--name", "mine", "--overwrite").exit_code == 0
    assert [shard.read_bytes() for shard in shards] == again


def test_pictures_are_reduced_upright_and_small_ones_stay(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = scene(0, (1200, 800))
    clear = scene(1).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    small = encoded(scene(2, (70, 64)), exif=exif)
    images = [encoded(large, exif=exif), encoded(clear, "PNG"), small, encoded(scene(3), "BMP")]
    deep = Image.fromarray((np.linspace(0, 0xFFFF, 64 * 64).reshape(64, 64)).astype(np.uint16))
    images.append(encoded(deep, "PNG"))
    table = {"image": images, "text": ["large", "clear", "small", "bitmap", "deep"], "id": [1, 2, 3, 4, 5]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    write_shard(tmp_path / "t.tar", {"a.png": encoded(scene(50), "PNG"), "a.txt": b"x"})
    done = prepare(tmp_path / "t.parquet", "--to", tmp_path / "out", "--pixels", 64, "--against", tmp_path / "t.tar")
    assert done.exit_code == 0, done.output
    made = members(tmp_path / "out" / "train-000000.tar")
    suffixes = [Path(name).suffix for name in made if "json" not in name]
    assert suffixes == [".jpg", ".png", ".jpg", ".jpg", ".jpg"]
    assert made["00000002.jpg"] == small
    assert 100 < np.asarray(Image.open(io.BytesIO(made["00000004.jpg"]))).mean() < 150
    shown = Image.open(io.BytesIO(made["00000000.jpg"]))
    assert shown.size == (64, 96)
    assert shown.getexif().get(0x0112) is None
    whole = large.transpose(Image.Transpose.ROTATE_270).resize((64, 96), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(shown, int) - np.asarray(whole, int)).mean() < 3
    assert Image.open(io.BytesIO(made["00000001.png"])).size == (107, 64)
    assert Image.open(io.BytesIO(made["00000001.png"])).mode == "RGBA"


def test_shards_keep_what_else_is_known_of_a_picture(tmp_path: Path) -> None:
    told = {"label": "red", "licence": "CC BY 4.0", "attribution": "somebody", "captions": ["x"], "grade": 3}
    write_shard(tmp_path / "a.tar", {"k.png": picture("red", 0), "k.json": json.dumps(told).encode()})
    assert prepare(tmp_path / "a.tar", "--to", tmp_path / "out").exit_code == 0
    made = members(tmp_path / "out" / "train-000000.tar")
    assert json.loads(made["00000000.json"]) == {**told, "origin": "a.tar/k"}
    here = prepare(tmp_path / "out" / "train-*.tar", "--to", tmp_path / "out", "--overwrite")
    assert here.exit_code == 1
    assert "is to be read" in here.output


def test_pictures_of_a_test_are_left_out_and_listed(folder: Path, tmp_path: Path) -> None:
    test = {}
    for number, image in {
        "same": (folder / "0.jpg").read_bytes(),
        "near": encoded(scene(5, (100, 60)), quality=40),
    }.items():
        test[f"{number}.jpg"], test[f"{number}.txt"] = image, b"test"
    test |= {"other.jpg": encoded(scene(99)), "other.txt": b"test", "bad.jpg": b"broken", "bad.txt": b"test"}
    write_shard(tmp_path / "test-0.tar", test)
    done = prepare(folder, "--to", tmp_path / "out", "--against", tmp_path / "test-*.tar")
    assert done.exit_code == 0, done.output
    assert "left out pictures/0.jpg: test-0.tar/same of the test" in done.output
    assert "left out pictures/5.jpg: nearly test-0.tar/near of the test" in done.output
    listed = (tmp_path / "out" / "train-repeated.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[:2] for line in listed[1:]] == [
        ["pictures/0.jpg", "test-0.tar/same"], ["pictures/5.jpg", "test-0.tar/near"],
    ]  # fmt: skip
    origins = [
        json.loads(d)["origin"] for n, d in members(tmp_path / "out" / "train-000000.tar").items() if "json" in n
    ]
    assert origins == ["pictures/1.jpg", "pictures/6.jpg", "pictures/7.jpg"]


def test_a_full_disk_is_told_and_leaves_no_half_shard(folder: Path, tmp_path: Path) -> None:
    # A limit on the size of files fails as a full disk does: in the middle of a write.
    code = (
        "import resource, sys\n"
        "from training.__main__ import app\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
        "app(['prepare', *sys.argv[1:]])\n"
    )
    for number in range(5):  # the second shard outgrows the limit
        noise = np.random.default_rng(number).integers(0, 255, (100, 100, 3), np.uint8)
        (folder / f"x{number}.png").write_bytes(encoded(Image.fromarray(noise), "PNG"))
        (folder / f"x{number}.txt").write_text("x", "utf-8")
    command = [sys.executable, "-c", code, str(folder), "--to", str(tmp_path / "out"), "--shard-size", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "no room for shard 1 (File too large). 1 shards are whole" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    [left] = (tmp_path / "out").iterdir()
    assert len(members(left)) == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing-*.tar"], "no file matches 'nothing-*.tar'"),
        (["pictures.zip"], "'pictures.zip' is no folder, and its name does not end in .tar, .csv"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = prepare(*arguments, "--to", tmp_path / "out")
    assert done.exit_code == 1
    assert told in done.output
