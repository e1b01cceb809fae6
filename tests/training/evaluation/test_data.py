"""Data sets in every form that is read, written here as their publishers do; what is said of broken ones."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.images.preprocessing import decode
from tests.training.conftest import COLOURS, picture, write_shard
from training.data.shards import ShardError
from training.evaluation.cards import REFERENCE_MODELS, cards, class_names
from training.evaluation.datasets import DataError, Split, parse_dataset

NAMES = list(COLOURS)


def read(where: str, base: Path, split: str = "test") -> Split:
    [found] = parse_dataset(where, base).read(split).values()
    return found


def colours_of(split: Split) -> list[str]:
    """The colour that each picture has, told by its middle."""
    palette = np.array(list(COLOURS.values()))
    middles = []
    for one in split.images:
        pixels = np.asarray(decode(one()).convert("RGB"), float)
        middles.append(NAMES[np.abs(palette - pixels.mean(axis=(0, 1))).sum(axis=1).argmin()])
    return middles


def labelled(split: Split) -> list[str]:
    return [split.classes[int(target)] for target in split.targets]


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), COLOURS[colour]).save(file, "JPEG")
    return file.getvalue()


def write(file: Path, content: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def test_folders_with_and_without_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number, name in enumerate(NAMES):
            write(tmp_path / "mine" / split / name / f"{number}.png", picture(name, number))
    write(tmp_path / "mine" / "test" / "red" / "notes.txt", "no picture")
    for where, split in (("mine", "test"), ("mine", "train"), ("mine/test", "test")):
        found = read(where, tmp_path, split)
        assert labelled(found) == colours_of(found) == sorted(NAMES)
    with pytest.raises(DataError, match="no folder 'train'"):
        read("mine/test", tmp_path, "train")


@pytest.mark.parametrize("origin", ["wds_mnist", "wds_vtab-mnist", "elsewhere"])
def test_clip_benchmarks_classification_layout(tmp_path: Path, origin: str) -> None:
    root = tmp_path / origin
    members = {}
    for number, name in enumerate(NAMES * 2):
        members[f"s{number:07d}.cls"] = str(NAMES.index(name)).encode()
        members[f"s{number:07d}.png"] = picture(name, number)
    write(root / "classnames.txt", "\n".join(NAMES))
    write(root / "zeroshot_classification_templates.txt", "a photo of {c}.\na {c} thing.\n")
    write(root / "test" / "nshards.txt", "2")
    halves = list(members.items())
    write_shard(root / "test" / "0.tar", dict(halves[:8]))
    write_shard(root / "test" / "1.tar", dict(halves[8:]))
    found = read(origin, tmp_path)
    assert labelled(found) == colours_of(found) == NAMES * 2
    assert found.templates == ["a photo of {}.", "a {} thing."]
    card = parse_dataset(origin, tmp_path).card
    assert (card.key if card else None) == (None if origin == "elsewhere" else "mnist")
    with pytest.raises(DataError, match="no split 'train'"):
        read(origin, tmp_path, "train")


def test_clip_benchmarks_retrieval_and_multilabel_layouts(tmp_path: Path) -> None:
    write(tmp_path / "r" / "dataset_type.txt", "retrieval")
    write(tmp_path / "r" / "test" / "nshards.txt", "1")
    write_shard(tmp_path / "r" / "test" / "0.tar", {"s0.jpg": jpeg("red"), "s0.txt": b"red\ncrimson"})
    assert read("r", tmp_path).captions == [["red", "crimson"]]

    truth = np.array([[1, 0, 1, 0], [0, 1, 0, 0]])
    members = {}
    for number, row in enumerate(truth):
        file = io.BytesIO()
        np.save(file, row)
        members |= {f"s{number}.webp": picture("red", number), f"s{number}.npy": file.getvalue()}
    write(tmp_path / "m" / "dataset_type.txt", "multilabel")
    write(tmp_path / "m" / "classnames.txt", "\n".join(NAMES))
    write(tmp_path / "m" / "test" / "nshards.txt", "1")
    write_shard(tmp_path / "m" / "test" / "0.tar", members)
    np.testing.assert_array_equal(read("m", tmp_path).truth, truth.astype(bool))


def test_a_class_out_of_range_names_its_sample(tmp_path: Path) -> None:
    write(tmp_path / "classnames.txt", "red\ngreen")
    write(tmp_path / "test" / "nshards.txt", "1")
    write_shard(tmp_path / "test" / "0.tar", {"s0.jpg": jpeg("red"), "s0.cls": b"2"})
    with pytest.raises(DataError, match=r"sample s0 is '2', not a number below 2"):
        read(str(tmp_path), tmp_path)


def test_lists_in_archives_are_unpacked_once(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "food-101.tar.gz", "w:gz") as tar:
        for name in NAMES:
            content = jpeg(name)
            info = tarfile.TarInfo(f"food-101/images/{name}_pie/7.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        content = "\n".join(f"{name}_pie/7" for name in NAMES).encode()
        info = tarfile.TarInfo("food-101/meta/test.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    for _ in range(2):
        found = read(f"food101={tmp_path}", tmp_path)
        assert labelled(found) == [f"{name} pie" for name in NAMES]
        assert colours_of(found) == NAMES
    (tmp_path / "food-101.tar.gz").unlink()  # unpacked by hand is as good
    assert len(read(f"food101={tmp_path}", tmp_path)) == 4
    write(tmp_path / "food-101" / "meta" / "test.txt", "nonsense")
    with pytest.raises(DataError, match="'nonsense' is not a line"):
        read(f"food101={tmp_path}", tmp_path)


def test_archives_do_not_write_outside_their_folder(tmp_path: Path) -> None:
    inner = tmp_path / "data"
    inner.mkdir()
    write_shard(inner / "dtd-r1.0.1.tar.gz", {"../escaped.txt": b"x"})
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(f"dtd={inner}", tmp_path)
    assert not (tmp_path / "escaped.txt").exists()
    with zipfile.ZipFile(inner / "Partitions.zip", "w") as packed:
        packed.writestr("../escaped.txt", "x")
    with pytest.raises(DataError, match="SUN397"):
        read(f"sun397={inner}", tmp_path)
    assert not (tmp_path / "escaped.txt").exists()


def test_cifar_binary(tmp_path: Path) -> None:
    root = tmp_path / "cifar-100-binary"
    records = b""
    for number, name in enumerate(NAMES):
        plane = np.repeat(np.array(COLOURS[name], np.uint8), 1024)
        records += bytes([19, number]) + plane.tobytes()
    write(root / "test.bin", records)
    write(root / "fine_label_names.txt", "\n".join(NAMES))
    found = read(f"cifar100={tmp_path}", tmp_path)
    assert labelled(found) == colours_of(found) == NAMES
    write(root / "test.bin", records[:-1])
    with pytest.raises(DataError, match="not as it was published"):
        read(f"cifar100={tmp_path}", tmp_path)


def test_mnist(tmp_path: Path) -> None:
    pixels = np.arange(2 * 28 * 28, dtype=np.int64).reshape(2, 28, 28) % 251
    write(
        tmp_path / "t10k-images-idx3-ubyte.gz",
        gzip.compress(struct.pack(">4B3i", 0, 0, 8, 3, 2, 28, 28) + pixels.astype(np.uint8).tobytes()),
    )
    write(tmp_path / "t10k-labels-idx1-ubyte", struct.pack(">4Bi", 0, 0, 8, 1, 2) + bytes([3, 9]))
    found = read(f"mnist={tmp_path}", tmp_path)
    assert found.targets.tolist() == [3, 9]
    np.testing.assert_array_equal(np.asarray(decode(found.images[1]()).convert("L")), pixels[1])


def test_stl10_counts_columns_first(tmp_path: Path) -> None:
    shape = np.zeros((1, 96, 96, 3), np.uint8)
    shape[0, :10] = COLOURS["red"]  # the top rows
    write(tmp_path / "stl10_binary" / "test_X.bin", shape.transpose(0, 3, 2, 1).tobytes())
    write(tmp_path / "stl10_binary" / "test_y.bin", bytes([2]))
    write(tmp_path / "stl10_binary" / "class_names.txt", "airplane\nbird\n")
    found = read(f"stl10={tmp_path}", tmp_path)
    assert labelled(found) == ["bird"]
    np.testing.assert_array_equal(np.asarray(decode(found.images[0]())), shape[0])


def test_flowers(tmp_path: Path) -> None:
    from scipy.io import savemat

    for number, name in enumerate(NAMES, start=1):
        write(tmp_path / "jpg" / f"image_{number:05d}.jpg", jpeg(name))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[5, 1, 102, 7]], np.uint8)})
    savemat(tmp_path / "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[4, 3]]})
    found = read(f"flowers={tmp_path}", tmp_path)
    assert found.targets.tolist() == [6, 101]
    assert colours_of(found) == [NAMES[3], NAMES[2]]
    assert read(f"flowers={tmp_path}", tmp_path, "train").targets.tolist() == [4, 0]


def test_voc_leaves_difficult_objects_out(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    write(root / "ImageSets" / "Main" / "test.txt", "000001\n000002\n")
    kinds = {"000001": [("cat", 0), ("dog", 1)], "000002": [("dog", 0), ("cat", 0), ("dog", 0)]}
    for key, things in kinds.items():
        objects = "".join(f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in things)
        write(root / "Annotations" / f"{key}.xml", f"<annotation>{objects}</annotation>")
        write(root / "JPEGImages" / f"{key}.jpg", jpeg("red"))
    found = read(f"voc2007={tmp_path}", tmp_path)
    assert list(found.classes) == ["cat", "dog"]
    np.testing.assert_array_equal(found.truth, [[True, False], [True, True]])


def test_imagenet_and_its_shifts_share_names(tmp_path: Path) -> None:
    wordnet = class_names("wordnet")
    for place in (5, 300, 999):
        write(tmp_path / "shift" / wordnet[place] / "1.jpg", jpeg("red"))
        write(tmp_path / "v2" / str(place) / "1.jpg", jpeg("red"))
    names = [class_names("imagenet1k")[place] for place in (5, 300, 999)]
    assert list(read(f"imagenet-a={tmp_path / 'shift'}", tmp_path).classes) == names
    assert list(read(f"imagenetv2={tmp_path / 'v2'}", tmp_path).classes) == names


def test_country_codes_take_the_names_in_their_order(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "country211" / "test" / f"{number:03d}" / "1.jpg", jpeg("red"))
    with pytest.raises(DataError, match="3 classes, not the 211"):
        read(f"country211={tmp_path}", tmp_path)


@pytest.mark.parametrize(
    ("where", "message"),
    [("birdsnap=x", "holds no folders"), ("x", "holds no folders"), ("nowhere", "not a folder"),
     ("cars=", "names no place"), ("missing-*.tar", "no file matches")],
)  # fmt: skip
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, where: str, message: str) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises((DataError, ShardError), match=message):
        read(where, tmp_path)


def test_cards_are_the_papers() -> None:
    own = [card for card in cards().values() if card.shift_of is None and card.classes]
    assert len(own) == 27
    assert len([card for card in cards().values() if card.shift_of == "imagenet1k"]) == 7
    for card in cards().values():
        assert card.licence
        assert card.obtain
        assert all(template.count("{}") == 1 for template in card.prompt_templates())
        if card.names and card.shift_of is None:
            assert len(class_names(card.names)) == card.classes, card.key
        for row in (card.reference.paper, card.reference.laion) if card.reference else ():
            assert len(row) <= len(REFERENCE_MODELS)
    counts = {"cifar10": 18, "imagenet1k": 80, "ucf101": 48, "kinetics700": 28, "caltech101": 34}
    assert {key: len(cards()[key].prompt_templates()) for key in counts} == counts
