"""Where pictures are kept, in memory or on disk, and which of them a step draws: the same either way."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks.decoding.tiffs import layout, one_tile, tiff
from model.data.skipped_samples import skip_reason
from model.images.preprocessing import ImageError
from tests.training.conftest import picture, write_config, write_shard
from training.config import ConfigError, Data, Source, load_config
from training.data.dataset import TrainingSet
from training.data.decoded_image import DecodedImage
from training.data.fingerprints import fingerprint
from training.data.shard_writer import shard_image
from training.plan import plan


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def varied(count: int) -> dict[str, bytes]:
    """Members of a shard: pictures of several formats, shapes and orientations, some of them transparent."""
    members = {}
    for number in range(count):
        opaque = Image.open(io.BytesIO(picture("blue", number, (40 + number, 60))))
        clear = opaque.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        exif = Image.Exif()
        exif[0x0112] = 6  # on its side
        suffix, data = [
            ("jpg", encoded(opaque, "JPEG", exif=exif)),
            ("png", encoded(clear, "PNG")),
            ("png", encoded(opaque.convert("RGBA"), "PNG")),  # an alpha channel, all opaque
            ("webp", encoded(clear, "WEBP")),
            ("jpg", encoded(opaque.resize((400, 300)), "JPEG")),  # decoded at half its size
        ][number % 5]
        members[f"{number}.{suffix}"] = data
        members[f"{number}.json"] = json.dumps({"label": f"thing {number % 7}", "tags": ["blue"]}).encode()
    return members


def both(base: Path, **settings: Any) -> tuple[TrainingSet, TrainingSet]:
    settings = {"train": [Source(shards="*.tar")], "store_pixels": 48, **settings}
    memory, disk = (TrainingSet(Data(pictures=kind, **settings), base, 1) for kind in ("memory", "disk"))
    return memory, disk


def test_pictures_on_disk_are_those_in_memory_bit_for_bit(tmp_path: Path, cache: Path) -> None:
    write_shard(tmp_path / "a.tar", varied(25))
    write_shard(tmp_path / "b.tar", varied(10))
    memory, disk = both(tmp_path)
    again = both(tmp_path)[1]  # from the index in the cache
    assert len(list(cache.glob("indexes/*/transparent.npy"))) == 1
    for step in range(3):
        batches = [data.batch(step, 32) for data in (memory, disk, again)]
        assert batches[0].texts == batches[1].texts == batches[2].texts
        assert (batches[0].items == batches[1].items).all()
        assert memory.keys(batches[0].items) == disk.keys(batches[0].items)
        rows = batches[0].items[8:24]  # what one of several processes asks for
        seen = [data.images(rows) for data in (memory, disk, again)]
        for other in seen[1:]:
            for name in ("rgba", "aspects", "transparent", "present"):
                assert getattr(seen[0], name).equal(getattr(other, name)), name
        assert seen[0].present.all()
        assert 0 < int(seen[0].transparent.sum()) < 16


def test_a_large_jpeg_is_decoded_at_less_than_its_size_with_its_own_shape_and_colours() -> None:
    ramp = np.linspace(0, 255, 1003, dtype=np.uint8)
    across, down = np.tile(ramp, (601, 1)), np.tile(ramp[:601, None], (1, 1003))
    image = Image.fromarray(np.stack([across, down, np.zeros_like(across)], -1))
    exif = Image.Exif()
    exif[0x0112] = 6
    for options, upright in (({}, image), ({"exif": exif}, image.transpose(Image.Transpose.ROTATE_270))):
        decoded = DecodedImage(encoded(image, "JPEG", quality=95, **options), 48, 1_000_000)
        assert decoded.aspect == pytest.approx(upright.width / upright.height)
        whole = np.asarray(upright.convert("RGBA").resize((48, 48), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(decoded.pixels - whole).max() <= 6
        assert not decoded.transparent


def test_sixteen_bits_are_seen_as_the_service_sees_them() -> None:
    deep = Image.fromarray(np.linspace(0, 0xFFFF, 64 * 64).reshape(64, 64).astype(np.uint16))
    assert DecodedImage(encoded(deep, "PNG"), 32, 10_000).pixels[..., 0].mean() == pytest.approx(127, abs=2)


def twelve_bits() -> bytes:
    """A TIFF whose rows rise from black to white in 12 bits."""
    levels = np.arange(128).repeat(128).reshape(128, 128) * 4095 // 127
    pairs = levels.reshape(128, 64, 2)
    packed = np.dstack([pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8, pairs[..., 1] & 255])
    return tiff(layout(128, 128, bits=12, compression=1), [packed.astype(np.uint8).tobytes()])


def test_metadata_and_declared_depths_are_read_as_the_service_reads_them() -> None:
    ramp = Image.fromarray((np.arange(128).repeat(128).reshape(128, 128) * 4095 // 127 >> 4).astype(np.uint8))
    plain = encoded(ramp, "PNG")
    expected = DecodedImage(plain, 64, 10**6).pixels
    text = b"prompt\0\0" + zlib.compress(bytes(2 << 20))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    broken_exif = encoded(ramp, "PNG", exif=b"Exif\0\0nonsense")
    large_text = plain[:33] + chunk + plain[33:]
    for data in (twelve_bits(), large_text, broken_exif):
        assert np.array_equal(DecodedImage(data, 64, 10**6).pixels, expected)
        shard_image(data, 32, 10**6)
    assert fingerprint(shard_image(large_text, None, 10**6)[1]).average_hash == fingerprint(plain).average_hash
    turned = encoded(in_sixteen_bits(ramp), "PNG", exif=on_its_side())
    suffix, smaller = shard_image(turned, 64, 10**6)
    assert suffix == "jpg"
    assert np.asarray(Image.open(io.BytesIO(smaller)).convert("L"))[32, [2, 61]].tolist() == pytest.approx(
        [248, 6], abs=6
    )


def in_sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_bombs_are_held_by_the_same_bounds() -> None:
    with pytest.raises(ImageError, match="would take 2,018 MiB") as caught:
        DecodedImage(one_tile(46_000), 64, 50_000_000)
    assert skip_reason(caught.value)[0] == "too many pixels"
    with pytest.raises(ImageError, match="would take 2,018 MiB"):
        shard_image(one_tile(46_000), 64, 50_000_000)


def test_broken_pictures_are_counted_and_take_no_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = varied(20)
    members["1.png"] = members["1.png"][:100]
    members["5.jpg"] = b"no picture"
    members["7.png"] = encoded(Image.new("L", (3000, 3000)), "PNG")  # a few kilobytes
    write_shard(tmp_path / "a.tar", members)
    memory, disk = both(tmp_path, holdout=0, max_pixels=1_000_000)
    assert (len(memory), len(disk)) == (17, 20)
    assert memory.skipped.counts == {"broken picture": 2, "too many pixels": 1}
    seen = disk.images(np.arange(20))
    assert [key for key, there in zip(disk.keys(np.arange(20)), seen.present, strict=True) if not there] == [
        "a.tar/1", "a.tar/5", "a.tar/7",
    ]  # fmt: skip
    disk.images(np.array([1, 5, 5]))  # is told once
    assert disk.skipped.counts == memory.skipped.counts
    assert "a.tar/5: broken picture" in caplog.text
    assert seen.rgba[seen.present].equal(memory.images(np.arange(17)).rgba)
    batch = disk.batch(0, 20)
    there = disk.images(batch.items).present
    assert batch.without(~there).positive.any(1).equal(there)


def test_files_that_vanish_while_training_are_skipped(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(picture("red", number))
        (tmp_path / f"{number}.txt").write_text(f"a red thing\n{number} of them\n", "utf-8")
    disk = TrainingSet(Data(train=[Source(folder=".")], pictures="disk", holdout=0), tmp_path, 0)
    (tmp_path / "3.png").unlink()
    assert (~disk.images(np.arange(8)).present).nonzero().tolist() == [[3]]
    assert disk.skipped.counts == {"unreadable file": 1}


def test_pictures_inside_parquet_cannot_stay_on_disk(tmp_path: Path) -> None:
    rows = {"image": [picture("red", n) for n in range(6)], "text": [f"{n}" for n in range(6)]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet", row_group_size=2)
    train = [Source(table="t.parquet")]
    memory = TrainingSet(Data(train=train, holdout=0), tmp_path, 0)
    assert memory.images(np.arange(6)).present.all()
    with pytest.raises(ConfigError, match="prepare"):
        TrainingSet(Data(train=train, pictures="disk"), tmp_path, 0)


def shards_of(base: Path, **counts: int) -> None:
    for name, count in counts.items():
        members = {f"{n}.{s}": d for n in range(count) for s, d in (("png", picture("red", n, (8, 8))), ("txt", b"x"))}
        write_shard(base / f"{name}.tar", members)


def test_without_resampling_every_picture_is_drawn_once_in_a_pass(tmp_path: Path) -> None:
    shards_of(tmp_path, a=30, b=50)
    train = [Source(shards="a.tar", resample=False, weight=0.3), Source(shards="b.tar", resample=False, weight=0.7)]
    data = TrainingSet(Data(train=train, holdout=0, store_pixels=32), tmp_path, 5)
    drawn = [data.batch(step, 16).items for step in range(60)]
    for first, last, share in ((0, 30, 0.3), (30, 80, 0.7)):
        mine = [int(i) for items in drawn for i in items if first <= i < last]
        assert abs(len(mine) - share * 960) <= 1
        counts = np.bincount(np.array(mine) - first, minlength=last - first)
        assert counts.min() > 8
        assert counts.max() - counts.min() <= 1
        assert mine[: last - first] != mine[last - first : 2 * (last - first)]  # another order in every pass
    other = TrainingSet(Data(train=train, holdout=0, store_pixels=32), tmp_path, 5)
    assert (other.batch(47, 16).items == drawn[47]).all()  # of any step, without those before it


def test_a_source_that_is_balanced_stands_beside_one_in_turn(tmp_path: Path) -> None:
    shards_of(tmp_path, a=8, b=40)
    train = [Source(shards="a.tar", weight=1), Source(shards="b.tar", resample=False, weight=3)]
    data = TrainingSet(Data(train=train, holdout=0, store_pixels=32), tmp_path, 0)
    items = np.concatenate([data.batch(step, 10).items for step in range(16)])
    assert (items < 8).sum() == 40
    assert np.bincount(items[items >= 8] - 8, minlength=40).tolist() == [3] * 40
    assert len(set(np.bincount(items[items < 8]).tolist())) > 1  # by chance


def test_the_plan_counts_without_decoding_and_tells_the_memory_of_either_place(colours: Path, cache: Path) -> None:
    data = {"train": [{"shards": ["train-*.tar"]}], "store_pixels": 512}
    told = {}
    for kind in ("memory", "disk"):
        config = write_config(colours, data={**data, "pictures": kind})
        told[kind] = plan(load_config(config), colours)
        assert "160 pictures" in told[kind]
    [memory], [disk] = ([line for line in text.splitlines() if "memory:" in line] for text in told.values())
    assert "pictures 0.16" in memory  # 160 of 1 MiB
    assert "pictures 0.28" in disk  # the batch of 32 of this step and those of eight steps ahead
    assert list(cache.glob("indexes/*/about.json"))


def test_a_missing_picture_is_nothing_to_see(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"a.png": b"x", "a.txt": b"x", "b.png": picture("red", 0), "b.txt": b"y"})
    seen = both(tmp_path, holdout=0)[1].images(np.array([0, 1, 0]))
    assert seen.present.tolist() == [False, True, False]
    assert not seen.rgba[0].any()
    assert seen.aspects.dtype == torch.float32
