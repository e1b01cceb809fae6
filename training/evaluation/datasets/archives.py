"""The published archives of the paper's data sets, unpacked beside themselves once and read in their own forms."""

from __future__ import annotations

import gzip
import lzma
import math
import re
import shutil
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from model.data.files import MAX_LIST_BYTES, MAX_TEXT_BYTES, check_regular, read_bounded
from training.evaluation.cards import Cifar, DatasetCard, Folders, Idx, Lists, Voc, class_names
from training.evaluation.datasets.layouts import read_folders
from training.evaluation.datasets.split import ArrayImage, DataError, ImageFile, Split
from training.progress import announced

MAX_GROWTH, ALLOWED_BYTES = 100, 2**30  # when unpacked: pictures hardly grow, lists tenfold; so much always may
MAX_MEMBERS = 20_000_000
MAX_IDX_BYTES = 2**30
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError)
UNPACKED = ".unpacked"  # NAME.unpacked beside an archive says that all of it is there


def read_archives(card: DatasetCard, folder: Path, split: str) -> Split:
    """The `split`, train or test, of the data set of `card` in `folder`. Raises DataError."""
    assert card.layout is not None
    for archive in card.layout.archives:
        unpack(folder / archive)
    try:
        return _read(card, folder, split)
    except (OSError, EOFError, ValueError, KeyError, IndexError, ElementTree.ParseError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{card.title} in {folder} is not as it was published: {error}") from error


def unpack(archive: Path, allowed_bytes: int = ALLOWED_BYTES) -> None:
    """Unpack it into its folder, unless that was done; an archive that is not there may have been unpacked by hand.

    Raises DataError, before anything is written where a zip says so, for more than a data set of pictures holds.
    """
    done = archive.with_name(archive.name + UNPACKED)
    if done.exists() or not archive.exists():
        return
    with announced(f"unpacking {archive}"):
        _unpack(archive, allowed_bytes)
    done.touch()


def _unpack(archive: Path, allowed_bytes: int) -> None:
    try:
        check_regular(archive)
        limit = min(MAX_GROWTH * archive.stat().st_size + allowed_bytes, shutil.disk_usage(archive.parent).free)
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                _check_size(sum(member.file_size for member in packed.infolist()), limit)
                packed.extractall(archive.parent)  # noqa: S202 - zipfile keeps names inside the folder
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(archive.parent, filter=_Bounded(limit))  # noqa: S202 - by the filter below
    except (OSError, EOFError, RecursionError, ValueError, RuntimeError, NotImplementedError, *BROKEN) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from error


class _Bounded:
    """tarfile's own filter against names, links and devices that lead elsewhere, and a limit on the sum of sizes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size, self._members = limit, 0, 0

    def __call__(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        self._size += max(0, member.size) if member.isreg() else 0
        self._members += 1
        _check_size(self._size, self._limit)
        if self._members > MAX_MEMBERS:
            raise tarfile.ReadError(f"it holds more than {MAX_MEMBERS:,} members")
        return tarfile.data_filter(member, folder)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise tarfile.ReadError(
            f"it grows to more than {limit:,} bytes, which is a bomb, or more than the disk has room for"
        )


def _read(card: DatasetCard, folder: Path, split: str) -> Split:
    layout = card.layout
    train = split == "train"
    if isinstance(layout, Folders):
        inner = layout.train if train else layout.test
        if inner is None:
            raise DataError(f"{card.title} has no split to train on")
        return _folders(card, layout, folder / inner)
    if isinstance(layout, Lists):
        return _lists(card, layout, folder, layout.train if train else layout.test)
    if isinstance(layout, Cifar):
        return _cifar(layout, folder, layout.train if train else layout.test)
    if isinstance(layout, Idx):
        pixels, labels = (read_idx(folder / name) for name in (layout.train if train else layout.test))
        return _rows(pixels, labels.astype(np.int64), class_names(card.names or card.key))
    if isinstance(layout, Voc):
        return _voc(layout, folder, layout.train if train else layout.test)
    assert layout is not None
    return _stl10(card, folder, train) if layout.kind == "stl10" else _flowers(card, folder, train)


def _folders(card: DatasetCard, layout: Folders, folder: Path) -> Split:
    if card.names is None:
        return read_folders(folder)
    names = class_names(card.names)
    if layout.ids is not None:
        return read_folders(folder, dict(zip(_ids(layout, len(names)), names, strict=True)))
    found = read_folders(folder)  # codes, in the order of the names
    if len(found.classes) != len(names):
        raise DataError(f"{folder} holds {len(found.classes)} classes, not the {len(names)} of {card.title}")
    return replace(found, classes=names)


def _ids(layout: Folders, count: int) -> list[str]:
    if isinstance(layout.ids, list):
        return layout.ids
    return class_names("wordnet") if layout.ids == "wordnet" else [str(number) for number in range(count)]


def _lists(card: DatasetCard, layout: Lists, folder: Path, files: str | list[str]) -> Split:
    lines = [
        line
        for name in ([files] if isinstance(files, str) else files)
        for line in read_bounded(folder / name, MAX_LIST_BYTES).decode("utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    found = [re.fullmatch(layout.line, line.strip()) for line in lines]
    for line, match in zip(lines, found, strict=True):
        if match is None:
            raise DataError(f"{card.title}: {line!r} is not a line of its lists")
    fields = [match.groupdict() for match in found if match is not None]
    labels = sorted({each["label"] for each in fields})
    index = {label: number for number, label in enumerate(labels)}
    images = [ImageFile(folder / layout.picture.format(**each)) for each in fields]
    names = class_names(card.names) if card.names else [re.sub(r"[_/]+", " ", label) for label in labels]
    return Split(images, names, np.array([index[each["label"]] for each in fields]))


def _cifar(layout: Cifar, folder: Path, files: list[str]) -> Split:
    size = layout.labels + 3 * 32 * 32
    rows = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, size) for name in files])
    planes = rows[:, layout.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    names = [line.replace("_", " ") for line in read_bounded(folder / layout.names, MAX_TEXT_BYTES).decode().split()]
    return _rows(np.ascontiguousarray(planes), rows[:, layout.labels - 1].astype(np.int64), names)


def read_idx(file: Path, max_bytes: int = MAX_IDX_BYTES) -> npt.NDArray[np.uint8]:
    """Read an idx file: two zeros, the type (8: uint8), the number of dimensions, each as big-endian int32, values."""
    packed = file.with_name(file.name + ".gz")
    if packed.exists():
        check_regular(packed)
        with gzip.open(packed) as stream:
            content = stream.read(max_bytes + 1)
    else:
        content = read_bounded(file, max_bytes)
    if content[:3] != b"\0\0\x08" or len(content) > max_bytes:
        raise DataError(f"{file} is not an idx file of bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4).astype(np.int64)
    if (shape < 0).any() or math.prod(shape.tolist()) > len(content):
        raise DataError(f"{file} says that it holds {' x '.join(map(str, shape))} values")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _voc(layout: Voc, folder: Path, listed: str) -> Split:
    keys = read_bounded(folder / listed, MAX_LIST_BYTES).decode("utf-8").split()
    objects = [_objects(folder / layout.root / "Annotations" / f"{key}.xml") for key in keys]
    classes = sorted({name for each in objects for name in each})
    truth = np.array([[name in each for name in classes] for each in objects], bool)
    images = [ImageFile(folder / layout.root / "JPEGImages" / f"{key}.jpg") for key in keys]
    return Split(images, classes, truth=truth)


def _objects(file: Path) -> set[str]:
    content = read_bounded(file, MAX_TEXT_BYTES)
    if b"<!ENTITY" in content:
        raise DataError(f"{file} defines entities, which no annotation does")
    tree = ElementTree.fromstring(content)  # noqa: S314 - nothing in it expands, and nothing from outside is read
    found = [(thing.findtext("name") or "", thing.findtext("difficult") or "0") for thing in tree.iter("object")]
    return {name for name, difficult in found if difficult == "0"}


def _stl10(card: DatasetCard, folder: Path, train: bool) -> Split:
    root, name = folder / "stl10_binary", "train" if train else "test"
    # Columns before rows.
    pixels = np.fromfile(root / f"{name}_X.bin", np.uint8).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    labels = np.fromfile(root / f"{name}_y.bin", np.uint8).astype(np.int64) - 1
    return _rows(
        np.ascontiguousarray(pixels), labels, read_bounded(root / "class_names.txt", MAX_TEXT_BYTES).decode().split()
    )


def _flowers(card: DatasetCard, folder: Path, train: bool) -> Split:
    from scipy.io import loadmat

    sets: dict[str, Any] = loadmat(folder / "setid.mat")
    labels: npt.NDArray[np.int64] = loadmat(folder / "imagelabels.mat")["labels"][0].astype(np.int64) - 1
    chosen = np.concatenate([sets["trnid"][0], sets["valid"][0]]) if train else sets["tstid"][0]
    images = [ImageFile(folder / "jpg" / f"image_{number:05d}.jpg") for number in chosen]
    return Split(images, class_names(card.names or "flowers"), labels[chosen - 1])


def _rows(pixels: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64], names: list[str]) -> Split:
    if len(pixels) != len(targets):
        raise DataError(f"{len(pixels)} pictures with {len(targets)} labels")
    return Split([ArrayImage(pixels, row) for row in range(len(pixels))], names, targets)
