"""Layouts that many data sets come in: a folder for each class, CLIP_benchmark's shards, and our own shards."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.shards import Sample
from training.evaluation.datasets.split import DataError, FilePicture, Member, Split, pictures_in, samples_in

PICTURES = ("webp", "png", "jpg", "jpeg")  # in CLIP_benchmark's order


def read_folders(folder: Path, names: Mapping[str, str] | None = None) -> Split:
    """A folder for each class. `names` are the classes by the names of their folders; others are not read."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    known = [name for name in names if name in set(found)] if names is not None else found
    if not known:
        expected = f" named {', '.join(list(names)[:3])} ..." if names else ""
        raise DataError(f"{folder} holds no folders of classes{expected}")
    files = [(file, number) for number, name in enumerate(known) for file in pictures_in(folder / name)]
    if not files:
        raise DataError(f"the folders in {folder} hold no pictures")
    classes = [names[name] for name in known] if names else [name.replace("_", " ") for name in known]
    return Split([FilePicture(file) for file, _ in files], classes, np.array([number for _, number in files]))


def is_benchmark(folder: Path) -> bool:
    """Whether a folder is in CLIP_benchmark's layout."""
    return any(folder.glob("*/nshards.txt"))


def read_benchmark(folder: Path, split: str) -> Split:
    """CLIP_benchmark's layout, as its clip_benchmark_export_wds writes it."""
    counted = folder / split / "nshards.txt"
    if not counted.exists():
        raise DataError(f"{counted} is missing: there is no split {split!r}")
    try:
        shards = [folder / split / f"{number}.tar" for number in range(int(counted.read_text("utf-8")))]
    except ValueError as error:
        raise DataError(f"{counted} does not hold a number") from error
    samples = [(key, members) for shard in shards for key, members in samples_in(shard)]
    pictures = [_picture(key, members) for key, members in samples]
    if (folder / "dataset_type.txt").exists() and "retrieval" in (folder / "dataset_type.txt").read_text("utf-8"):
        captions = [_captions(key, members) for key, members in samples]
        return Split(pictures, captions=captions)
    classes = _lines(folder / "classnames.txt")
    if not classes:
        raise DataError(f"{folder / 'classnames.txt'} is missing or empty")
    if samples and "npy" in samples[0][1]:  # several classes each
        truth = np.stack([_flags(key, members, len(classes)) for key, members in samples])
        return Split(pictures, classes, truth=truth, templates=_templates(folder))
    targets = np.array([_index(key, _text(key, members, "cls"), len(classes)) for key, members in samples])
    return Split(pictures, classes, targets, templates=_templates(folder))


def splits_of_samples(samples: Sequence[Sample]) -> dict[str, Split]:
    """Ours: by label, by coarse class and by caption, each where more than half of the samples have one."""
    found = {}
    # One object for each picture in all of its splits, by which it is known that it has been embedded.
    held = {id(sample): _Held(sample) for sample in samples}
    for name, key in (("", "label"), (" (coarse)", "coarse")):
        told = [sample for sample in samples if getattr(sample, key)]
        classes = sorted({getattr(sample, key) for sample in told})
        if len(told) * 2 > len(samples) and len(classes) > 1:
            index = {label: number for number, label in enumerate(classes)}
            targets = np.array([index[getattr(sample, key)] for sample in told])
            found[name] = Split([held[id(sample)] for sample in told], classes, targets)
    told = [sample for sample in samples if sample.captions]
    if len(told) * 2 > len(samples):
        found[" (captions)"] = Split([held[id(s)] for s in told], captions=[sample.captions for sample in told])
    return found


class _Held:
    __slots__ = ("_sample",)

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def __call__(self) -> bytes:
        return self._sample.picture

    def __str__(self) -> str:
        return self._sample.key


def _picture(key: str, members: Mapping[str, Member]) -> Member:
    found = next((members[suffix] for suffix in PICTURES if suffix in members), None)
    if found is None:
        raise DataError(f"the sample {key} has no picture: {', '.join(sorted(members))}")
    return found


def _text(key: str, members: Mapping[str, Member], suffix: str) -> str:
    if suffix not in members:
        raise DataError(f"the sample {key} has no .{suffix}: {', '.join(sorted(members))}")
    return members[suffix]().decode("utf-8", errors="replace").strip()


def _index(key: str, text: str, classes: int) -> int:
    if not text.isdecimal() or int(text) >= classes:
        raise DataError(f"the class of sample {key} is {text!r}, not a number below {classes}")
    return int(text)


def _captions(key: str, members: Mapping[str, Member]) -> list[str]:
    found = [line.strip() for line in _text(key, members, "txt").splitlines() if line.strip()]
    if not found:
        raise DataError(f"the sample {key} has no caption: its .txt is empty")
    return found


def _flags(key: str, members: Mapping[str, Member], classes: int) -> npt.NDArray[np.bool_]:
    """Which of the classes it has, as zeros and ones in a .npy."""
    try:
        flags = np.asarray(np.load(io.BytesIO(members["npy"]()), allow_pickle=False))
    except (KeyError, ValueError, EOFError) as error:
        raise DataError(f"the classes of sample {key} cannot be read from its .npy: {error}") from error
    if flags.shape != (classes,):
        raise DataError(f"the .npy of sample {key} is of shape {flags.shape}, not {classes} flags")
    return flags.astype(bool)


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").splitlines() if line.strip()] if file.exists() else []


def _templates(folder: Path) -> list[str]:
    return [line.replace("{c}", "{}") for line in _lines(folder / "zeroshot_classification_templates.txt")]
