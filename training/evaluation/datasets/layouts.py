"""Layouts that many data sets come in: a folder for each class, CLIP_benchmark's shards, and our own shards."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from model.data.files import MAX_TEXT_BYTES, is_system_name, read_bounded
from model.data.skipped_samples import SkippedSamples
from model.data.text_files import AnnotationError, decode_text
from model.embedder import ReadBytes
from training.data.annotation import note_labels
from training.data.sample import Sample
from training.evaluation.datasets.split import DataError, ImageFile, Split, TarMember, image_files, read_members

IMAGE_SUFFIXES = ("webp", "png", "jpg", "jpeg")  # in CLIP_benchmark's order


def read_folders(folder: Path, names: Mapping[str, str] | None = None) -> Split:
    """A folder for each class. `names` are the classes by the names of their folders; others are not read."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    skipped = SkippedSamples()
    found = _class_folders(folder, skipped)
    known = [name for name in names if name in set(found)] if names is not None else found
    if not known:
        expected = f" named {', '.join(list(names)[:3])} ..." if names else ""
        raise DataError(f"{folder} holds no folders of classes{expected}")
    images: list[ReadBytes] = []
    labels: list[str] = []
    for name in known:
        files = image_files(folder / name, skipped)
        if not files:
            skipped.pass_over(str(folder / name), "a class folder without pictures")
        images += map(ImageFile, files)
        labels += [names[name] if names else name.replace("_", " ")] * len(files)
    if not images:
        raise DataError(f"the folders in {folder} hold no pictures. Skipped {skipped}; {' '.join(skipped.remarks())}")
    classes = list(dict.fromkeys(labels))
    if names is None and len(classes) == 1:
        raise DataError(f"{folder} holds pictures of one class only, {classes[0]!r}: there is nothing to tell apart")
    note_labels(classes, skipped)
    index = {label: number for number, label in enumerate(classes)}
    return Split(images, classes, np.array([index[label] for label in labels]), skipped=skipped)


def _class_folders(folder: Path, skipped: SkippedSamples) -> list[str]:
    found = []
    for entry in sorted(folder.iterdir()):
        if is_system_name(entry.name):
            skipped.pass_over(str(entry), "hidden or made by the system")
        elif entry.is_dir():
            found.append(entry.name)
        else:
            skipped.pass_over(str(entry), "a file in no class folder")
    return found


def is_benchmark(folder: Path) -> bool:
    """Whether a folder is in CLIP_benchmark's layout."""
    return any(folder.glob("*/nshards.txt"))


def read_benchmark(folder: Path, split: str) -> Split:
    """CLIP_benchmark's layout, as its clip_benchmark_export_wds writes it."""
    counted = folder / split / "nshards.txt"
    if not counted.exists():
        raise DataError(f"{counted} is missing: there is no split {split!r}")
    shards, skipped = [folder / split / f"{number}.tar" for number in range(_count(counted))], SkippedSamples()
    samples = [(key, members) for shard in shards for key, members in read_members(shard, skipped)]
    images = [_image_member(key, members) for key, members in samples]
    if (folder / "dataset_type.txt").exists() and "retrieval" in (folder / "dataset_type.txt").read_text("utf-8"):
        captions = [_captions(key, members) for key, members in samples]
        return Split(images, captions=captions, skipped=skipped)
    classes = _lines(folder / "classnames.txt")
    if not classes:
        raise DataError(f"{folder / 'classnames.txt'} is missing or empty")
    if samples and "npy" in samples[0][1]:  # several classes each
        truth = np.stack([_flags(key, members, len(classes)) for key, members in samples])
        return Split(images, classes, truth=truth, templates=_templates(folder), skipped=skipped)
    targets = np.array([_index(key, _text(key, members, "cls"), len(classes)) for key, members in samples])
    return Split(images, classes, targets, templates=_templates(folder), skipped=skipped)


def _count(file: Path) -> int:
    text = read_bounded(file, MAX_TEXT_BYTES).decode("utf-8", "replace").strip()
    if not text.isdecimal() or len(text) > 6:
        raise DataError(f"{file} does not hold a number below a million but {text[:20]!r}")
    return int(text)


def splits_of_samples(samples: Sequence[Sample], skipped: SkippedSamples) -> dict[str, Split]:
    """Ours: by label, by coarse class and by caption, each where more than half of the samples have one."""
    found = {}
    # One object for each picture in all of its splits: the evaluator caches embeddings by it.
    images = {id(sample): _SampleImage(sample) for sample in samples}
    for name, key in (("", "label"), (" (coarse)", "coarse")):
        labelled = [sample for sample in samples if getattr(sample.annotation, key)]
        classes = sorted({getattr(sample.annotation, key) for sample in labelled})
        if len(labelled) * 2 > len(samples) and len(classes) > 1:
            index = {label: number for number, label in enumerate(classes)}
            targets = np.array([index[getattr(sample.annotation, key)] for sample in labelled])
            found[name] = Split([images[id(sample)] for sample in labelled], classes, targets, skipped=skipped)
            note_labels(classes, skipped)
    captioned = [sample for sample in samples if sample.annotation.captions]
    if len(captioned) * 2 > len(samples):
        found[" (captions)"] = Split(
            [images[id(s)] for s in captioned],
            captions=[sample.annotation.captions for sample in captioned],
            skipped=skipped,
        )
    return found


class _SampleImage:
    """The picture of a sample that is in memory."""

    __slots__ = ("_sample",)

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def __call__(self) -> bytes:
        return self._sample.image

    def __str__(self) -> str:
        return self._sample.key


def _image_member(key: str, members: Mapping[str, TarMember]) -> TarMember:
    found = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    if found is None:
        raise DataError(f"the sample {key} has no picture: {', '.join(sorted(members))}")
    return found


def _text(key: str, members: Mapping[str, TarMember], suffix: str) -> str:
    if suffix not in members:
        raise DataError(f"the sample {key} has no .{suffix}: {', '.join(sorted(members))}")
    if members[suffix].size > MAX_TEXT_BYTES:
        raise DataError(f"the .{suffix} of sample {key} has {members[suffix].size:,} bytes")
    try:
        return decode_text(members[suffix]()).strip()
    except AnnotationError as error:
        raise DataError(f"the .{suffix} of sample {key} cannot be read: {error}") from error


def _index(key: str, text: str, classes: int) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) >= classes:
        raise DataError(f"the class of sample {key} is {text[:20]!r}, not a number below {classes}")
    return int(text)


def _captions(key: str, members: Mapping[str, TarMember]) -> list[str]:
    found = [line.strip() for line in _text(key, members, "txt").splitlines() if line.strip()]
    if not found:
        raise DataError(f"the sample {key} has no caption: its .txt is empty")
    return found


def _flags(key: str, members: Mapping[str, TarMember], classes: int) -> npt.NDArray[np.bool_]:
    """Which of the classes it has, as zeros and ones in a .npy."""
    try:
        file = io.BytesIO(members["npy"]())
        read_header = {1: npy.read_array_header_1_0, 2: npy.read_array_header_2_0}[npy.read_magic(file)[0]]
        shape, _, _ = read_header(file)
        if shape != (classes,):  # before so many are allocated
            raise DataError(f"the .npy of sample {key} is of shape {shape}, not {classes} flags")
        file.seek(0)
        flags = np.asarray(np.load(file, allow_pickle=False))
    except (KeyError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the classes of sample {key} cannot be read from its .npy: {error}") from error
    return flags.astype(bool)


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    try:
        return [line for line in decode_text(read_bounded(file, MAX_TEXT_BYTES)).splitlines() if line.strip()]
    except AnnotationError as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _templates(folder: Path) -> list[str]:
    return [line.replace("{c}", "{}") for line in _lines(folder / "zeroshot_classification_templates.txt")]
